"""What `gaprun watch` shows, as plain data: the runs of a database as they are now, each with what the page lacks.

A page says with every question what it has of each run (`mark`, which only this module reads), and is sent the rest: of
a run that did not change nothing, of one that trains its new points. Nothing is kept here between two questions but
which waiting runs wait in vain, which a cluster is asked for once a minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gaprun.comparison.places import place_of, usual_places
from gaprun.evaluation import catalogue
from gaprun.store.following import ended

if TYPE_CHECKING:
    from gaprun.store import Store

RESULTS = ("gap", "image_recall@1", "text_recall@1", "zeroshot_top1", "probe_top1")
LATEST = 8  # of those that finished, and of those that stopped
MOST_CURVES = 24  # of runs that go on; more could not be told apart
MOST_LINES = 60  # of runs that go on
RECENT = timedelta(days=1)
ASK_CLUSTER_SECONDS = 60.0
POLL_SECONDS = 2.0
WORK_SHARE = 0.05  # of the time at most that questions may take the database
QUIET_SECONDS = 10.0
Row = Mapping[str, Any]


class Live:
    """A database that is followed; may be asked by several threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._lost: dict[str, str] = {}
        self._asked = -ASK_CLUSTER_SECONDS

    @property
    def name(self) -> str:
        """What the page calls the database."""
        place = self.store.place
        return place.path.name if place.path else place.name

    def look(self, has: Mapping[str, str]) -> dict[str, Any]:
        """The state now, for a page that has of each run what `has` (marks by run id) says.

        `going`, `finished`, `stopped`: ids in the order in which they are shown; `drawn`: those with curves; `running`
        and `waiting`: how many there are, shown or not; `runs`: by id those that differ from what the page has; `wait`:
        seconds until the next question. Raises what a store that cannot be read raises.
        """
        with self._lock:
            begun = time.monotonic()
            try:
                self.store.check_file()
                found = self._look(has)
            finally:
                # Kept open, it would keep a training that ends from putting its write-ahead log into the file.
                self.store.close()
            return found | {"wait": max(POLL_SECONDS, (time.monotonic() - begun) / WORK_SHARE)}

    def _look(self, has: Mapping[str, str]) -> dict[str, Any]:
        if time.monotonic() - self._asked >= ASK_CLUSTER_SECONDS:
            self._lost, self._asked = self.store.lost_waiting(), time.monotonic()
        going, finished, stopped = self.store.runs_now(LATEST, self._lost)
        running = [row for row in going if row["status"] == "running"]
        drawn = _drawn(running, finished, stopped)
        rows = {row["id"]: row for row in [*going[:MOST_LINES], *finished, *stopped]}
        measured = self.store.last_measured(list(rows))
        runs: dict[str, dict[str, Any]] = {}
        for run_id, row in rows.items():
            now = Shown.of(row, measured.get(run_id), run_id in drawn)
            known = Shown.read(has.get(run_id, ""))
            again = known.began != now.began
            if replace(known, step=-1) == now:
                continue
            runs[run_id] = _state(row)
            if run_id in drawn:
                after = -1 if again else known.step
                points = self.store.curves_after(run_id, after)
                runs[run_id]["points"] = {"after": after, **points}
                now = replace(now, step=max([after, *points["step"]]))
            if again or known.measured != now.measured:
                runs[run_id]["results"] = self._results(run_id)
            runs[run_id]["mark"] = now.mark()
        return {
            "database": self.name,
            "now": _iso(datetime.now(UTC)),
            "running": len(running),
            "waiting": len(going) - len(running),
            "going": [row["id"] for row in going[:MOST_LINES]],
            "finished": [row["id"] for row in finished],
            "stopped": [row["id"] for row in stopped],
            "drawn": drawn,
            "runs": runs,
        }

    def _results(self, run_id: str) -> list[dict[str, Any]]:
        """The first results: each metric where and how it was measured most often, at every step at which it was."""
        rows = self.store.metric_rows(RESULTS, run_ids=[run_id], every_step=True)
        rows = [row for row in rows if row["value"] is not None]
        usual = usual_places(rows)
        found = []
        for name in RESULTS:
            own = sorted(
                (row for row in rows if row["metric"] == name and place_of(row) == usual[name]),
                key=lambda row: row["step"],
            )
            if own:
                last = own[-1]
                found.append(
                    {
                        "metric": name,
                        "title": catalogue.metric(name).title,
                        "place": f"{last['dataset']}/{last['split']}, {last['protocol']}",
                        "text": catalogue.value_text(name, last["value"]),
                        "steps": [row["step"] for row in own],
                        "values": [row["value"] for row in own],
                    }
                )
        return found


@dataclass(frozen=True)
class Shown:
    """What a page has of a run: points up to `step` of the attempt that `began` at a moment, what was `measured` up to
    another, and the row as `rest` says; all without blanks, so that a mark is these four and blanks between them."""

    step: int = -1
    began: str = ""
    measured: str = ""
    rest: str = ""

    @classmethod
    def of(cls, row: Row, measured: datetime | None, drawn: bool) -> Shown:
        """All that there is of a run; `drawn`: with its curve."""
        rest = (row["status"], drawn, row["step"], _iso(row["heartbeat"]), _iso(row["finished"]))
        return cls(-1, str(_iso(row["started"])), str(_iso(measured)), "/".join(map(str, rest)))

    @classmethod
    def read(cls, mark: str) -> Shown:
        """What `mark` says; of what is no mark, nothing."""
        words = mark.split(" ")
        if len(words) != 4 or len(words[0]) > 15 or not words[0].removeprefix("-").isdecimal():
            return cls()
        return cls(int(words[0]), *words[1:])

    def mark(self) -> str:
        """What `read` reads."""
        return f"{self.step} {self.began} {self.measured} {self.rest}"


def _drawn(running: Sequence[Row], finished: Sequence[Row], stopped: Sequence[Row]) -> list[str]:
    """Runs that go on, the last to start first, and those that ended within a day; where there is none, the last."""
    over = sorted([*finished, *stopped], key=ended, reverse=True)
    recent = [row for row in over if datetime.now(UTC) - ended(row) < RECENT]
    if not running and not recent:
        recent = over[:1]
    return [row["id"] for row in [*running[:MOST_CURVES], *recent]]


def _state(row: Row) -> dict[str, Any]:
    """One run without its curves."""
    total = row["total_steps"]
    found: dict[str, Any] = {
        name: row[name] for name in ("recipe", "seed", "status", "error", "host", "step")
    }
    found |= {
        "total": total,
        "phase": row["status"],
        "rate": None,
        "left": None,
        "waiting": None,
        "loss": None,
    }
    found |= {name: _iso(row[name]) for name in ("started", "finished", "heartbeat")}
    found |= {"at": None, "quiet": None}
    if row["status"] == "queued":
        return found | {"phase": "waiting"}
    pace = (row["notes"] or {}).get("pace")
    noted = datetime.fromisoformat(pace["at"]) if pace else None
    if pace and noted and row["started"] and noted >= row["started"]:  # not of an attempt before
        found |= {"rate": pace["steps_per_second"], "waiting": pace["waiting"]}
        found |= {"loss": pace["loss"], "at": pace["step"]}
    if row["status"] != "running":
        return found
    if row["kind"] != "train" or row["step"] >= total:
        return found | {"phase": "measuring", "rate": None, "waiting": None}
    if found["at"] is None or noted is None:
        return found | {"phase": "preparing"}
    if found["rate"]:
        found["left"] = (total - row["step"]) / found["rate"]
    # Both moments are of the clock of the machine that trains.
    quiet = (row["heartbeat"] - noted).total_seconds()
    if quiet > QUIET_SECONDS + 3 / (found["rate"] or 1.0):
        found["quiet"] = quiet  # it measures along training, saves, or hangs
    return found | {"phase": "training"}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds") if moment else None
