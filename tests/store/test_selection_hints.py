"""A condition that nothing meets says which value was meant; tags and notes are keys like others."""

import pytest

from gaprun.errors import UserError


def test_the_nearest_value_of_any_key(store, new_run, key) -> None:
    store.begin_run(new_run("hard-swap", temperature={"rule": "softplus"}))
    store.add_evaluation("hard-swap-s0", key(), {"gap": 0.5}, 1, 1)
    place = key()
    assert store.unmet(["status=finishd"]) == "nothing has status=finishd: did you mean finished?"
    assert store.unmet(["status=failed"]) == ""  # a status that there is, though no run has it
    assert store.unmet(["recipe=hardswap"]) == "nothing has recipe=hardswap: did you mean hard-swap?"
    assert store.unmet(["temperature.rule=softpls"]).endswith("did you mean softplus?")
    assert place.dataset in store.unmet(["dataset=zzz"]) and store.unmet([f"dataset={place.dataset}"]) == ""
    assert store.unmet(["recipe!=hard-swap"]) == store.unmet([]) == ""


def test_values_that_decide_nothing_are_named(store, new_run, key) -> None:
    """One of several that nothing has, and one after != that nothing has: the others would hide the mistake."""
    for recipe, sets in (("flt", ["a/train"]), ("slrt", ["a/train", "b/train"])):
        store.begin_run(new_run(recipe, data={"train": sets}, loss={"ready": True}))
        store.add_evaluation(f"{recipe}-s0", key(), {"gap": 0.5}, 1, 1)
    store.retag("flt-s0", ["checked"])
    assert store.idle(["recipe=flt", "recipe=slrrt"]) == ["nothing has recipe=slrrt: did you mean slrt?"]
    assert store.idle(["status!=finishd"]) == [
        "nothing has status=finishd, so status!=finishd leaves nothing out: did you mean finished?"
    ]
    assert store.idle(["loss.ready!=yes"])[0].endswith("there is True") and store.idle(["tag!=chcked"])
    for one in ("recipe=nobody", "recipe!=flt", "tag!=checked", "data.train!=b/train", "data.train!=none"):
        assert store.idle([one]) == [], one
    assert store.unmet(["tag=checked"]) == "" and store.unmet(["tag=chcked"]).endswith(
        "did you mean checked?"
    )


def test_large_seeds_are_told_apart(store, new_run) -> None:
    for seed in (2**53, 2**53 + 1):
        store.begin_run(new_run("flt", seed, size=seed))
    for key in ("seed", "size"):
        assert [run.seed for run in store.runs([f"{key}={2**53 + 1}"])] == [2**53 + 1]
        assert len(store.runs([f"{key}={2**53}.0"])) == 1 and store.runs([f"{key}=x"]) == []


def test_a_list_is_what_any_of_its_entries_is(store, new_run, key) -> None:
    for recipe, sets in (("flt", ["a/train"]), ("slrt", ["a/train", "b[1]/train"])):
        store.begin_run(new_run(recipe, data={"train": sets}))
        store.add_evaluation(f"{recipe}-s0", key(), {"gap": 0.5}, 1, 1)

    def chosen(*where: str) -> set[str]:
        values = {row["id"] for row in store.metric_rows(["gap"], where)}
        assert values == {run.id for run in store.runs(where)}
        return values

    assert chosen("data.train=b[1]/train") == chosen("data.train=b[1]*") == {"slrt-s0"}
    assert chosen("data.train!=b[1]/train") == chosen('data.train=["a/train"]') == {"flt-s0"}
    assert chosen("data.train!=a/train") == set()


def test_tags_and_notes_choose_runs_and_values(store, new_run, key) -> None:
    for seed in range(3):
        store.begin_run(new_run("flt", seed))
        store.add_evaluation(f"flt-s{seed}", key(), {"gap": 0.1 * seed}, 1, 1)
    assert store.retag("flt-s0", ["good", "a_b"]) == ["good", "a_b"]
    assert store.retag("flt-s1", ["good", "good"]) == ["good"]
    store.set_note("flt-s2", "the card was shared")

    def chosen(*where: str) -> set[str]:
        values = {row["id"] for row in store.metric_rows(["gap"], where)}
        assert values == {run.id for run in store.runs(where)}
        return {name.removeprefix("flt-") for name in values}

    assert chosen("tag=good") == {"s0", "s1"} and chosen("tag!=good") == {"s2"}
    assert chosen("tag=GOOD") == chosen("tag=axb") == set()  # whatever a database thinks of case and of signs
    assert chosen("tag=go*") == {"s0", "s1"} and chosen("tag=a_b") == {"s0"} and chosen("tag=null") == {"s2"}
    assert chosen("note=*shared*") == {"s2"}
    assert store.retag("flt-s0", ["good"], remove=True) == ["a_b"] and chosen("tag=good") == {"s1"}
    with pytest.raises(UserError, match="cannot be a name"):
        store.retag("flt-s0", ["two words"])
    with pytest.raises(UserError, match="NUL"):
        store.set_note("flt-s0", "\0")
