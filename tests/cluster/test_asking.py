"""What SLURM says of the runs that wait for it, by stand-ins of its commands."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from gaprun.cluster import asking
from gaprun.cluster.asking import Known
from gaprun.store.standing import lost_queued


@pytest.mark.parametrize(
    ("note", "hours", "known", "expected"),
    [
        ({"job": "12_3", "cluster_name": "big"}, 99, Known("big", {"12_3", "12_4"}), None),
        ({"job": "12_3", "cluster_name": "big"}, 1, Known("big", {"12_4"}), "SLURM job 12_3 was cancelled"),
        ({"job": "12_3", "cluster_name": "big", "log": "/l"}, 1, Known("big", set()), "see /l"),
        ({"job": "12_3", "cluster_name": "big"}, 1, Known("another", set()), None),
        ({"job": "12_3", "cluster_name": "big"}, 24 * 15, Known("big", {"12_3"}), None),
        ({"job": "12_3", "cluster_name": "big"}, 24 * 13, None, None),
        ({"job": "12_3", "cluster_name": "big"}, 24 * 15, None, "nothing was heard"),
        ({"job": "12_3", "cluster_name": "big"}, 1, Known("big", set(), private=True), None),
        ({"job": "12_3", "cluster_name": "big", "uid": -1}, 1, Known("big", set(), private=True), None),
        (
            {"job": "12_3", "cluster_name": "big", "uid": os.getuid()},
            1,
            Known("big", set(), private=True),
            "cancelled",
        ),
        ({}, 0.1, None, None),
        ({}, 0.2, None, "cut short"),
    ],
)
def test_slurm_is_believed_where_it_answers_and_time_decides_elsewhere(
    note, hours, known, expected, monkeypatch
):
    now = datetime.now(UTC)
    submitted = (now - timedelta(hours=hours)).isoformat()
    monkeypatch.setattr(asking, "slurm_jobs", lambda jobs: known)
    queue = {"cluster": "slurm", "submitted": submitted, **note}
    reason = lost_queued({"a": queue}, {"a": now})["a"]
    assert reason is None if expected is None else expected in reason


def test_slurm_is_asked_once_for_all_and_an_answer_that_is_none_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho 'ClusterName             = big'\n")
    (tmp_path / "squeue").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho 12_0\necho 12_1\n')
    for name in ("scontrol", "squeue"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert asking.slurm_jobs(["12_0", "12_5", "9"]) == Known("big", {"12_0", "12_1"})
    assert (tmp_path / "asked").read_text().count("--jobs=12,9") == 1
    (tmp_path / "scontrol").write_text(
        "#!/bin/sh\necho 'ClusterName             = big'\necho 'PrivateData = accounts,jobs'\n"
    )
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 'Invalid job id specified' >&2\nexit 1\n")
    assert asking.slurm_jobs(["12_0"]) == Known("big", set(), private=True)
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    assert asking.slurm_jobs(["12_0"]) is None
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert asking.slurm_jobs(["12_0"]) is None
