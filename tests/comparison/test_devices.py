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
