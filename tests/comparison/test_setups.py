"""Several set-ups in one database: how each is named, and that no row, mark, sentence or column is of two of them."""

import pytest
from rich.cells import cell_len

from gaprun.comparison import compare, shown
from gaprun.comparison.answer import sentences
from gaprun.comparison.apart import as_text, what_differs
from gaprun.comparison.lanes import each_setup, with_fewer_rows
from gaprun.comparison.views import correlations
from gaprun.errors import UserError
from gaprun.store import EvaluationKey
from gaprun.tables.terminal import lines as lines_of
from tests.comparison.test_answer import METRICS
from tests.protocols import named


def recipe(train="scenes/train", steps=600, **data):
    return {"data": {"train": [train], **data}, "schedule": {"steps": steps, "warmup_steps": steps // 10}}


OLD, NEW = recipe(margin=1.0), recipe(margin=1.125, resize="model")
LONG = recipe(steps=6000, margin=1.0)
PHOTOS = {
    "data": {"train": ["photos/train"], "margin": 1.125, "resize": "model"},
    "schedule": {"epochs": 18.0, "steps": None},
}
WORDS = {
    "old": "scenes, 600 steps, resize=none",
    "new": "scenes, 600 steps, resize=model",
    "long": "scenes, 6,000 steps",
    "photos": "photos",
}


def test_a_set_up_is_named_by_what_tells_it_from_the_rest_and_no_more():
    setups = {"old": OLD, "new": NEW, "long": LONG, "photos": PHOTOS}
    assert what_differs(setups) == WORDS
    assert what_differs({name: setups[name] for name in ("old", "photos")}) == {
        "old": "scenes",
        "photos": "photos",
    }
    assert what_differs({"old": OLD}) == {"old": ""}
    ends = {str(end): {"temperature": {"rule": "schedule", "end": end}, "seed": end} for end in (0.05, 0.2)}
    assert what_differs(ends) == {"0.05": "end=0.05", "0.2": "end=0.2"}


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        ((["coco/train"], ["coco/restval"]), ("coco/train", "coco/restval")),
        ((["coco/train"], ["coco/train", "a/train"]), ("coco", "coco and a")),
        ((["a/train"], [{"set": "a/train", "weight": 2}]), ("a", "a x 2")),
    ],
)
def test_training_data_keep_what_tells_them_apart(trained, words):
    recipes = {str(number): {"data": {"train": sets}} for number, sets in enumerate(trained)}
    assert tuple(what_differs(recipes).values()) == words


def test_one_key_that_tells_all_apart_is_taken_before_several():
    grid = {
        f"{lr}": {"optimizer": {"lr": lr, "betas": [0.9, beta]}}
        for lr, beta in ((1, 0.9), (2, 0.9), (3, 0.98))
    }
    assert what_differs(grid) == {"1": "lr=1", "2": "lr=2", "3": "lr=3"}


@pytest.fixture
def four(store, add):
    """Four set-ups whose methods have equal names; zero-shot of `new` was measured on other pictures."""
    methods = {"baseline": 0.9, "flt": 0.4, "slrt": 0.6}
    for number, (setup, resolved) in enumerate(
        {"old": OLD, "new": NEW, "long": LONG, "photos": PHOTOS}.items()
    ):
        place = "photos" if setup == "photos" else "scenes"
        for name, gap in methods.items():
            if setup == "new" and name == "slrt":
                continue
            for seed in range(3):
                off = (0, 1, -1)[seed] * (1 if name == "baseline" else 1.2)
                gaps = {"gap": gap - number / 10 + off / 100, "image_recall_at_5": 50 - gap - off / 10}
                of_method = {"temperature": {"rule": name}}
                run = add(
                    name, seed, resolved=resolved | of_method, tag=f"-{setup}", at={"dataset": place}, **gaps
                )
                pictures = "f2" if setup == "new" else "f1"
                key = EvaluationKey(f"c-{run}", 100, "zeroshot", place, "classes", pictures, named("full"))
                store.add_evaluation(run, key, {"zeroshot_top1": 20.0 + off}, 100, 64)
    return store.place.name


def test_rows_say_their_set_up_and_are_compared_in_it(four):
    records = compare("gap", db=four).records()
    assert [r["setup"] for r in records] == [
        *[WORDS["photos"]] * 3, *[WORDS["old"]] * 3, *[WORDS["long"]] * 3, *[WORDS["new"]] * 2
    ]  # fmt: skip
    assert all(r["group"] == f"{r['group'].split()[0]} [{r['setup']}]" for r in records)
    assert all(r["baseline"] == f"baseline [{r['setup']}]" for r in records)
    assert {r["delta"] and round(r["delta"], 6) for r in records} == {None, -0.5, -0.3}
    assert sum(r["best"] for r in records) == 4
    assert all(r["group"].startswith("flt") for r in records if r["best"])
    assert {r["family_size"] for r in records if r["delta"]} == {1, 2}
    only = compare("gap", db=four, where=["schedule.steps=600", "data.resize=none"]).records()
    assert [(r["group"], r["setup"]) for r in only] == [(n, None) for n in ("baseline", "flt", "slrt")]
    sorted_in_each = compare("gap", db=four, sort="gap", top=1)
    assert sorted_in_each.groups == [f"flt [{WORDS[name]}]" for name in ("photos", "old", "long", "new")]
    assert "7 more rows are not shown" in sorted_in_each.notes


def test_on_a_screen_each_set_up_has_its_own_lines_below_shared_columns(four):
    found = compare(["gap", "image_recall@5"], db=four)
    lines = lines_of(shown.fitting(found, 80), 80)
    text = "\n".join(str(line) for line in lines)
    assert max(cell_len(str(line)) for line in lines) <= 80
    assert text.count("gap ↓") == 1 and " - " not in text
    heads = [f"{WORDS['photos']} (photos/test, full):"]
    heads += [f"{WORDS[name]} (scenes/test, full):" for name in ("old", "long", "new")]
    numbers = [text.split("\n").index(head) for head in heads]
    assert numbers == sorted(numbers)
    below = [text.split("\n")[number + 1] for number in numbers]
    assert [line.split()[:3] for line in below] == [
        ["baseline", "3", gap] for gap in ("0.600", "0.900", "0.700", "0.800")
    ]
    assert "Δ: difference from baseline of the row's set-up" in text.replace("\n", " ")
    named_ = shown.fitting(found, 80, shown.Look(names={"flt": "fixed", f"slrt [{WORDS['long']}]": "slower"}))
    names = [row[0].lines[0] for row in named_.rows]
    assert names.count("fixed") == 4 and names.count("slower") == 1 and names.count("slrt") == 2


def test_a_long_list_keeps_baselines_and_the_best_of_each_set_up_and_says_so(four):
    parts = compare("gap", db=four).parts()
    kept, said = with_fewer_rows(parts, 8)
    assert [part.groups for part in kept.values()] == [["baseline", "flt"]] * 4
    assert said == "3 more rows, of their set-up not the best in gap"
    assert with_fewer_rows(parts, 11) == (parts, "")


def test_sentences_and_views_are_of_one_set_up_each(four):
    found = compare(METRICS, db=four)
    said = sentences(found)
    assert len(said) == 12
    assert [one.partition(":")[0] for one in said[::3]] == [
        WORDS[n] for n in ("photos", "old", "long", "new")
    ]
    assert said[0].startswith("photos: flt closes the gap most, from 0.600 (baseline) to 0.100: −0.500 [")
    tables = each_setup(found, lambda part: correlations(part, ["gap"]))
    assert [table.title for table in tables] == [f"{WORDS[n]}:" for n in ("photos", "old", "long", "new")]
    assert {r["n"] for table in tables for r in table.records} == {2, 3}


def test_what_was_measured_on_other_pictures_is_a_column_of_its_own_and_within_a_set_up_an_error(four, store):
    found = compare("zeroshot_top1", db=four)
    columns = {(r["setup"], r["protocol"]) for r in found.records() if r["dataset"] == "scenes"}
    assert columns == {
        (WORDS["old"], "full, data_fingerprint=f1"), (WORDS["long"], "full, data_fingerprint=f1"),
        (WORDS["new"], "full, data_fingerprint=f2"),
    }  # fmt: skip
    alone = compare("zeroshot_top1", db=four, where=["schedule.steps=600", "data.resize=model"])
    assert {r["protocol"] for r in alone.records()} == {"full"}
    key = EvaluationKey("c-flt-s1-old", 100, "zeroshot", "scenes", "classes", "f3", named("full"))
    store.add_evaluation("flt-s1-old", key, {"zeroshot_top1": 21.0}, 100, 64)
    with pytest.raises(
        UserError, match=r"zeroshot_top1 on scenes/classes \(full\) is not comparable: the data"
    ):
        compare("zeroshot_top1", db=four)


def test_a_hash_is_told_by_its_beginning():
    first, second = "ab" * 32, "ac" * 20
    assert what_differs({"one": {"content": first}, "other": {"content": second}}) == {
        "one": "content=abababababab",
        "other": "content=acacacacacac",
    }


def test_values_that_are_lists_read_as_words():
    terms = [{"name": "mean_gap", "weight": 0.5, "warm": None}, {"name": "mine"}]
    assert as_text(terms) == "mean_gap weight=0.5 warm=none, mine"
    assert as_text(["a/train", "b/train"]) == "a/train, b/train" and as_text([]) == "[]"
