"""What a frozen tower makes of the training data, made once: kept beside the runs, found again by all that decides it.

The tower is asked as in a step: the same pictures or tokens, arithmetic, and number of rows at a time. So the features
are those of a run that embeds in every step: bit for bit for pictures on the CPU (tested), up to rounding for captions,
which a batch cuts to its own longest. They do not depend on where a run was stopped.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from gaprun.arrays import DamagedArrays, new_arrays, read_arrays, remove_arrays
from gaprun.data.plan import Indices, Plan
from gaprun.data.stream import ImageFeatures, LoadBatch, stream, untrimmed
from gaprun.errors import Failure, UserError
from gaprun.files import content_hash
from gaprun.model.frozen import Tower, is_frozen, tower_state
from gaprun.model.identity import identity_of
from gaprun.model.saved import weights_hash
from gaprun.model.towers import embedding_size
from gaprun.runtime.cards import explained, less_memory
from gaprun.training.state import TrainState
from gaprun.training.transfer import on_device

DEFINITION = 1  # of what is kept
ARRAYS = ("rows", "shown", "damaged")
HEADROOM = 0.8  # share of the free disk that may be taken
Part = tuple[Indices, Tensor, list[str]]  # which rows, their features, what was damaged


@dataclass(frozen=True)
class FrozenFeatures:
    """Features of the towers that `state` leaves as they are, kept in `folder`.

    `progress` is called with what, done and total, `say` with what must be read; `check_stop` raises where the run is
    to stop.
    """

    state: TrainState
    folder: Path
    progress: Callable[[str, int, int], None]
    say: Callable[[str], None]
    check_stop: Callable[[], None]

    def towers(self, pictures: int, captions: int) -> set[Tower]:
        """The frozen towers whose inputs, all of the training data's, are embedded before the first step.

        Said of each frozen tower that is asked in every step instead. Recipe and data decide alone.
        """
        state, found = self.state, set[Tower]()
        counts: tuple[tuple[Tower, int, str], ...] = (
            ("image", pictures, "pictures"),
            ("text", captions, "captions"),
        )
        for tower, count, what in counts:
            if not is_frozen(state.towers.clip, tower):
                continue
            every = f"the frozen {tower} tower embeds its {what} in every step"
            if tower == "image" and state.recipe.data.crop == "random":
                self.say(
                    f"{every}: data.crop random shows other pixels each time (data.crop=centre is embedded once)"
                )
            elif state.length.samples_before(state.length.total) < count:
                self.say(f"{every}: the run shows fewer than the {count} that there are")
            else:
                found.add(tower)
        return found

    def put_into(self, load: LoadBatch, towers: set[Tower]) -> tuple[LoadBatch, list[str]]:
        """`load` with features in the place of what `towers` would be asked for, and the damaged pictures.

        Every process of the state's world calls this; the first one embeds, the others find it on the disk (or, on
        another machine, embed too).
        """
        tokens, trim, features, damaged = load.tokens, load.trim, load.features, list[str]()
        pool = load.plan.pool
        if "image" in towers:
            inputs = f"{pool.content} centre {self.state.encoding.interpolation}"
            found = self._found("image", inputs, len(pool), lambda: self._pictures(load))
            features, damaged = ImageFeatures(found["rows"], found["shown"]), found["damaged"].tolist()
        if "text" in towers:
            inputs = hashlib.sha256(np.ascontiguousarray(tokens).tobytes()).hexdigest()
            found = self._found("text", inputs, len(tokens), lambda: self._captions(load))
            tokens, trim = found["rows"], untrimmed
        return LoadBatch(load.plan, tokens, trim, load.rows, load.in_place, features), damaged

    def _found(
        self, tower: Tower, inputs: str, count: int, embed: Callable[[], Iterator[Part]]
    ) -> dict[str, np.ndarray]:
        """The kept arrays of `tower`, made first where they are not there or damaged."""
        place = self.folder / f"{self._key(tower, inputs)}.features"

        def work() -> dict[str, np.ndarray]:
            try:
                kept = read_arrays(place, ARRAYS)
            except DamagedArrays as error:
                self.say(f"{error}: embedded again")
                if not remove_arrays(place, ARRAYS):
                    raise Failure(f"{place} is damaged and holds other files too: move it away") from None
                kept = None
            if kept is None:
                self._write(place, tower, count, embed())
                try:
                    kept = read_arrays(place, ARRAYS)
                except DamagedArrays as error:
                    raise Failure(f"{error}: what is on the disk is not what was written") from None
            return kept or {}

        return self.state.world.first_then_rest(work)

    def _key(self, tower: Tower, inputs: str) -> str:
        """Hash of all that decides the features: the model's identity with this tower's weights, the inputs, the
        device's kind, and what moves their last bits."""
        state = self.state
        weights = weights_hash(tower_state(state.towers.clip, tower), {})
        identity = identity_of(state.towers, weights, state.device).model_hash
        threads = torch.get_num_threads() if state.device.type == "cpu" else 0
        how = [state.recipe.compute.model_dump(mode="json"), torch.__version__, threads, self._at_once]
        return content_hash([DEFINITION, tower, identity, inputs, how])[:32]

    @property
    def _at_once(self) -> int:
        """Rows that this process embeds at a time in a step."""
        rows = self.state.rows.stop - self.state.rows.start
        return min(self.state.recipe.compute.micro_batch or rows, rows)

    def _pictures(self, load: LoadBatch) -> Iterator[Part]:
        """Features of all pictures, as many at once as in a step."""
        state, pool, size = self.state, load.plan.pool, self._at_once
        plan = _InOrder(pool, 0, size, load.plan.crop_scale, rule="first", crop="centre")
        every = LoadBatch(plan, np.zeros((len(pool.texts), 1), dtype=np.int64))
        pin, workers = state.device.type == "cuda", state.recipe.data.workers
        for batch in on_device(stream(every, 0, -(-len(pool) // size), workers, pin), state.device):
            assert batch.images is not None
            with self._asking():
                features = state.encoding.encode_image(state.encoding.images(batch.pictures.to(state.device)))
            yield batch.images, features, batch.damaged

    def _captions(self, load: LoadBatch) -> Iterator[Part]:
        """Features of all captions, as many at once as in a step."""
        size, count = self._at_once, len(load.tokens)
        for start in range(0, count, size):
            rows = np.arange(start, start + size) % count
            with self._asking():
                features = self.state.encoding.encode_text(load.texts_at(rows).to(self.state.device))
            yield rows, features, []

    @contextmanager
    def _asking(self) -> Iterator[None]:
        compute = self.state.recipe.compute
        way_out = less_memory(compute, self._at_once)
        with (
            explained("embedding for a frozen tower", way_out),
            torch.no_grad(),
            self.state.encoding.autocast(),
        ):
            yield

    def _write(self, folder: Path, tower: Tower, count: int, parts: Iterator[Part]) -> None:
        """Write `rows` (count, d) in the order of `parts`, whose picture each shows, and what was damaged."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        size = embedding_size(self.state.recipe.model)
        need, free = 4 * count * size, shutil.disk_usage(folder.parent).free
        if need > HEADROOM * free:
            raise UserError(
                f"model.freeze: {need / 2**30:.1f} GiB of features do not fit into the {free / 2**30:.1f} GiB that are "
                f"free on the disk of {folder.parent}; free some, or keep the runs elsewhere (GAPRUN_RUNS)"
            )
        with new_arrays(folder, "features of a frozen tower") as place:
            rows = open_memmap(place / "rows.npy", "w+", np.float32, (count, size))
            shown, damaged, done = np.zeros(count, dtype=np.int64), dict[str, None](), 0
            for sources, features, broken in parts:
                self.check_stop()
                end = min(done + len(sources), count)
                rows[done:end] = features[: end - done].float().cpu().numpy()
                shown[done:end] = sources[: end - done]
                damaged |= dict.fromkeys(broken)
                done = end
                self.progress(f"frozen {tower}", done, count)
            rows.flush()
            np.save(place / "shown.npy", shown)
            np.save(place / "damaged.npy", np.array([*damaged], dtype=np.str_))


class _InOrder(Plan):
    """Every picture of the pool once, in order; the last batch is filled up from the start."""

    def images(self, step: int) -> Indices:
        return np.arange(step * self.batch_size, (step + 1) * self.batch_size) % len(self.pool)
