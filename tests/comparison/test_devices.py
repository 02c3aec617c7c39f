"""Values of one recipe that were measured on different kinds of device are averaged, and said."""

from gaprun.comparison import compare, select


def test_a_mean_over_two_devices_says_so(store, add):
    for seed, device in enumerate(("cpu fp32", "cuda fp32-tf32", "cpu fp32")):
        add("flt", seed, at={"device": device}, gap=0.2 + seed / 10)
        add("baseline", seed, at={"device": "cpu fp32"}, gap=0.5)
        add("old", seed, gap=0.4)  # of an earlier version, which noted no device
    rows, notes = select.load(store, ["gap"])
    said = [note for note in notes if "averages mix values measured on" in note]
    assert said == [
        "flt: averages mix values measured on cpu fp32 and cuda fp32-tf32; measure the runs on one kind of device, or "
        "choose one with --where 'device=cpu fp32'"
    ]
    assert len(rows) == 9
    _, notes = select.load(store, ["gap"], where=["device=cpu fp32"])
    assert not [note for note in notes if "averages mix" in note]
    assert any("averages mix" in note for note in compare("gap", db=str(store.place.path)).notes)
