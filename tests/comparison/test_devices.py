"""Values of one recipe that were measured on different kinds of device are averaged, and said."""

from gaprun.comparison import compare, select


def test_rows_of_one_column_by_two_precisions_are_named(store, add):
    """Each row by one precision: no cell averages two, but rows are subtracted from each other."""
    for seed in range(3):
        add("baseline", seed, at={"device": "cpu fp32"}, gap=0.5 + seed / 90)
        add("slrt", seed, at={"device": "cpu fp32"}, gap=0.4 + seed / 80)
        add("flt", seed, at={"device": "cpu bf16-autocast"}, gap=0.2 + seed / 70)
    _, notes = select.load(store, ["gap"])
    assert notes == [
        "not all rows of a column were measured on one kind of device: flt on cpu bf16-autocast, others on cpu fp32; "
        "choose one with --where 'device=cpu fp32'"
    ]
    # The run was measured in fp32 before, or is later: that is there to be chosen.
    for seed in range(3):
        add("flt", seed, at={"device": "cpu fp32", "model_hash": "fp32"}, gap=0.25 + seed / 70)
    columns, notes = select.load(store, ["gap"], where=["device=cpu bf16-autocast", "recipe=flt"])
    assert notes == [] and sorted(columns["value"]) == [0.2 + seed / 70 for seed in range(3)]


def test_a_mean_over_two_devices_says_so(store, add):
    for seed, device in enumerate(("cpu fp32", "cuda fp32-tf32", "cpu fp32")):
        add("flt", seed, at={"device": device}, gap=0.2 + seed / 10)
        add("baseline", seed, at={"device": "cpu fp32"}, gap=0.5)
        add("old", seed, gap=0.4)  # of an earlier version, which noted no device
    columns, notes = select.load(store, ["gap"])
    said = [note for note in notes if "averages mix values measured on" in note]
    assert said == [
        "flt: averages mix values measured on cpu fp32 and cuda fp32-tf32; measure the runs on one kind of device, or "
        "choose one with --where 'device=cpu fp32'"
    ]
    assert len(columns) == 9
    _, notes = select.load(store, ["gap"], where=["device=cpu fp32"])
    assert not [note for note in notes if "averages mix" in note]
    assert any("averages mix" in note for note in compare("gap", db=str(store.place.path)).notes)


def test_a_coarser_measurement_does_not_replace_one_in_the_recipe_s_precision(store, add):
    """`eval --precision bf16` of a run that was measured already: what it gives is chosen by name, and said."""
    for seed in range(2):
        add("flt", seed, at={"device": "cpu fp32", "model_hash": "a"}, gap=0.25 + seed / 8)
        add("slrt", seed, at={"device": "cuda bf16-autocast", "model_hash": "b"}, gap=0.5)  # never by another
    add("flt", 0, at={"device": "cpu bf16-autocast", "model_hash": "b"}, gap=0.75)
    add("flt", 0, at={"device": "cpu bf16-autocast", "model_hash": "b", "protocol": "pool512"}, gap=0.75)
    columns, notes = select.load(store, ["gap"])
    assert list(columns.entries("id", "protocol", "value", "device")) == [
        ("flt-s0", "full", 0.25, "cpu fp32"),
        ("flt-s0", "pool512", 0.75, "cpu bf16-autocast"),
        ("flt-s1", "full", 0.375, "cpu fp32"),
        ("slrt-s0", "full", 0.5, "cuda bf16-autocast"),
        ("slrt-s1", "full", 0.5, "cuda bf16-autocast"),
    ]
    assert [note for note in notes if "precision" in note] == [
        "1 run measured by cpu bf16-autocast too, which is not shown beside the values in the recipe's own precision; "
        "choose it with --where 'device=cpu bf16-autocast'"
    ]
    assert [row["value"] for row in store.metrics("flt-s0") if row["protocol"] == "full"] == [0.25]
    columns, notes = select.load(store, ["gap"], where=["device=cpu bf16-autocast", "protocol=full"])
    assert list(columns.entries("id", "value")) == [("flt-s0", 0.75)] and not notes
    # What is later in training is another value, and counts.
    add("flt", 1, at={"device": "cpu bf16-autocast", "model_hash": "b", "step": 200}, gap=0.1)
    columns, _ = select.load(store, ["gap"], where=["recipe=flt", "seed=1"])
    assert list(columns.entries("step", "value")) == [(200, 0.1)]
    columns, _ = select.load(store, ["gap"], where=["recipe=flt", "seed=1"], at="step=100")
    assert list(columns.entries("step", "value")) == [(100, 0.375)]
    # Of two in the recipe's own precision the one that was measured last counts, as ever.
    add("flt", 0, at={"device": "cuda fp32", "model_hash": "c"}, gap=0.26)
    assert [row["value"] for row in store.metrics("flt-s0") if row["protocol"] == "full"] == [0.26]
