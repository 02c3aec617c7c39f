"""The store as one training sees it: every number also goes into the run's folder, and none is lost with the database.

`record.jsonl` in the folder holds trajectory rows and measured values, a line each, as they came. When the SQLite file
is moved, deleted or replaced under a running training, the training goes on and the file alone has the rest; the next
run of the same job brings everything in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from gaprun.errors import Failure
from gaprun.protocols import Protocol
from gaprun.store import EvaluationKey, Store
from gaprun.store.connection import DatabaseGone
from gaprun.store.models import Evaluation
from gaprun.store.reading import TRAJECTORY_COLUMNS

RECORD = "record.jsonl"
T = TypeVar("T")


class KeptStore(Store):
    """`store` for the run whose files are in `folder`; `gone` says what became of the database, if it did."""

    def __init__(self, store: Store, folder: Path, code: str) -> None:
        super().__init__(store.place, store.engine, store.backup)
        self._claims, self._file = store._claims, store._file
        self.path, self.code = folder / RECORD, code
        self.gone: DatabaseGone | None = None
        self.identity = store.identity

    def where(self) -> str:
        """What to say when the database is gone: where the numbers are and how they come back."""
        return (
            f"{self.gone}; the numbers are kept in {self.path}: put the database back and run the same command again "
            f"(another database takes them too where {self.path.parent.parent} is its folder of runs, see GAPRUN_RUNS)"
        )

    def record(self, run_id: str, rows: Sequence[dict[str, Any]]) -> None:
        if rows:
            self._append({"rows": list(rows)})
        self._unless_gone(lambda: Store.record(self, run_id, rows))

    def add_evaluation(
        self, run_id: str, key: EvaluationKey, metrics: dict[str, float], *args: Any, **options: Any
    ) -> int:
        options["code_version"] = options.get("code_version") or self.code
        self._append({"evaluation": asdict(key), "metrics": metrics, "args": args, "options": options})
        number = self._unless_gone(lambda: Store.add_evaluation(self, run_id, key, metrics, *args, **options))
        return number or 0

    def heartbeat(self, run_id: str, step: int, pace: Mapping[str, Any] | None = None) -> None:
        self._unless_gone(lambda: Store.heartbeat(self, run_id, step, pace))

    def annotate(self, run_id: str, notes: dict[str, Any]) -> None:
        self._unless_gone(lambda: Store.annotate(self, run_id, notes))

    def finish_run(self, run_id: str, status: str, *args: Any, **options: Any) -> None:
        self._unless_gone(lambda: Store.finish_run(self, run_id, status, *args, **options))

    def find_evaluation(
        self, run_id: str, key: EvaluationKey, *args: Any, **options: Any
    ) -> Evaluation | None:
        return self._unless_gone(lambda: Store.find_evaluation(self, run_id, key, *args, **options))

    def has_evaluation(self, run_id: str, key: EvaluationKey) -> bool:
        return bool(self._unless_gone(lambda: Store.has_evaluation(self, run_id, key)))

    def bring_in(self, run_id: str, step: int, checkpoint_hash: str) -> None:
        """Store what the folder has of the steps before `step`, and what was measured there or of `checkpoint_hash`."""
        rows: dict[int, dict[str, Any]] = {}
        measured = []
        for line in self._lines():
            for row in line.get("rows", ()):
                if row["step"] < step and row.keys() <= set(TRAJECTORY_COLUMNS):
                    rows[row["step"]] = row
            said = line.get("evaluation", {})
            if said and (said.get("checkpoint_hash") == checkpoint_hash or said.get("step", step) < step):
                measured.append(line)
        if rows:
            Store.record(self, run_id, [rows[step] for step in sorted(rows)])
        for line in measured:
            try:
                key = EvaluationKey(**line["evaluation"])
                key = replace(key, protocol=Protocol.of(line["evaluation"]["protocol"]))
            except (TypeError, LookupError):
                continue  # of a gaprun whose evaluations had other keys: measured again
            if Store.find_evaluation(self, run_id, key) is None:
                Store.add_evaluation(self, run_id, key, line["metrics"], *line["args"], **line["options"])

    def _lines(self) -> list[dict[str, Any]]:
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        found = []
        for line in text.splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue  # cut off where a process was killed
            found += [value] if isinstance(value, dict) else []
        return found

    def _append(self, value: dict[str, Any]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":  # the line before was cut off where a process was killed
                        file.write(b"\n")
                file.write(json.dumps(value, default=float).encode() + b"\n")
        except OSError as error:
            if self.gone is not None:
                raise Failure(
                    f"{self.gone}; {self.path} cannot be written either ({error.strerror})"
                ) from None

    def _unless_gone(self, work: Callable[[], T]) -> T | None:
        if self.gone is None:
            try:
                return work()
            except DatabaseGone as error:
                self.gone = error
        return None
