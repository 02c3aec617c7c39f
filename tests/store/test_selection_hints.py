"""A condition that nothing meets says which value was meant."""


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
