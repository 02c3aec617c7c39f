"""Running the encoders: each split once a checkpoint, kept on disk and found again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, Dataset

from gaprun.arrays import DamagedArrays, RefusedArrays
from gaprun.data.decode import decode_rgb
from gaprun.data.errors import DamagedSample
from gaprun.data.loading import loader_context, watched
from gaprun.data.split import Split
from gaprun.data.stream import batches_ahead
from gaprun.errors import Failure
from gaprun.evaluation.embeddings import Embeddings
from gaprun.evaluation.keep import read_embeddings, remove_embeddings, write_embeddings
from gaprun.evaluation.task import Source
from gaprun.files import content_hash
from gaprun.model.identity import identity_of
from gaprun.model.towers import Towers
from gaprun.runtime.transfer import moved_ahead

FETCHED = 64  # batches whose features come back from a GPU together
DEFINITION = 3  # of what is kept; 3: with the lengths of image rows
Progress = Callable[[str, int, int], None]


class _Pictures(Dataset[Any]):
    def __init__(self, split: Source, towers: Towers) -> None:
        self.split, self.transform = split, towers.preprocess()

    def __len__(self) -> int:
        return self.split.samples

    def __getitem__(self, index: int) -> Any:
        try:
            return self.transform(decode_rgb(self.split.read_image(index)))
        except DamagedSample as error:
            place = f"{self.split.dataset}/{self.split.split}"
            raise Failure(
                f"{place}: picture {self.split.keys[index]}: {error.reason}; a data set with a hole is not measured: "
                "run `gaprun data check` and write it again"
            ) from None


class StoredEmbedder:
    """Embeds splits with one set of towers; `encoded` counts the images that an encoder was run on."""

    def __init__(
        self,
        towers: Towers,
        checkpoint_hash: str,
        folder: Path | None,
        device: torch.device,
        *,
        batch_size: int = 256,
        workers: int = 0,
        progress: Progress | None = None,
    ) -> None:
        """`folder`: where embeddings are kept (None: in memory only); `progress(what, done, total)`.

        `remarks` gains a line for kept embeddings that were damaged and are encoded again.
        """
        self.towers, self.checkpoint_hash, self.folder, self.device = towers, checkpoint_hash, folder, device
        self.identity = identity_of(towers, checkpoint_hash, device)
        self.remarks: list[str] = []
        self.batch_size, self.workers = batch_size, workers
        self.progress = progress or (lambda what, done, total: None)
        self.encoded = 0
        self._memory: dict[str, Embeddings] = {}
        towers.clip.to(device).eval()
        if towers.channels_last:
            towers.clip.to(memory_format=torch.channels_last)

    def embeddings(self, split: Source) -> Embeddings:
        """Unit float32 embeddings of every image and caption, from memory, from disk, or encoded now."""
        key = self._key(split)
        if key not in self._memory:
            kept = self.folder / key if self.folder else None
            self._memory[key] = self._encode(split) if kept is None else self._kept(kept, split)
        return self._memory[key]

    def _kept(self, folder: Path, split: Source) -> Embeddings:
        """The embeddings in `folder`, which are made and written where they are not there or damaged.

        Where another user keeps this one from reading or writing them, they are made and not kept.
        """
        try:
            found = read_embeddings(folder)
        except RefusedArrays as error:
            self.remarks.append(f"{error}; {split.dataset}/{split.split} was encoded again")
            return self._encode(split)
        except DamagedArrays as error:
            self.remarks.append(f"{error}: {split.dataset}/{split.split} was encoded again")
            found = None
            if not remove_embeddings(folder):
                return self._encode(split)
        if found is not None:
            return found
        fresh = self._encode(split)
        try:
            write_embeddings(folder, fresh)
            return read_embeddings(folder) or fresh
        except RefusedArrays as error:
            self.remarks.append(f"{error} (what was measured is stored)")
        except DamagedArrays:
            pass
        return fresh

    def _key(self, split: Source) -> str:
        return content_hash([DEFINITION, self.identity.model_hash, split.fingerprint])[:32]

    def _encode(self, split: Source) -> Embeddings:
        texts = [caption for captions in split.captions for caption in captions]
        counts = [len(captions) for captions in split.captions]
        labels = split.labels if isinstance(split, Split) and split.classes is not None else None
        images, norms = self._images(split)
        return Embeddings(
            images=images,
            image_norms=norms,
            texts=self.prompts(texts, f"{split.dataset}/{split.split} captions"),
            owner=np.repeat(np.arange(len(counts)), counts),
            labels=labels,
        )

    def _images(self, split: Source) -> tuple[np.ndarray, np.ndarray]:
        rows = np.concatenate(self._image_batches(split))
        self.encoded += len(rows)
        return np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, -1])

    def prompts(self, texts: list[str], what: str = "prompts") -> np.ndarray:
        """Unit float32 (len(texts), D) embeddings; equal texts are encoded once."""
        distinct = list(dict.fromkeys(texts))
        rows = [np.zeros((0, self._dimension()), dtype=np.float32), *self._text_batches(distinct, what)]
        position = {text: index for index, text in enumerate(distinct)}
        return np.concatenate(rows)[[position[text] for text in texts]]

    def _image_batches(self, split: Source, part: int = 0, of: int = 1) -> list[np.ndarray]:
        """Unit rows of every batch of `split`, and in a last column their lengths before; or of each `of`-th batch from
        number `part` on."""
        batches = [list(batch) for batch in self._batches(split.samples)[part::of]]

        def told(done: int) -> None:
            self.progress(
                f"{split.dataset}/{split.split} images", min(done * of, split.samples), split.samples
            )

        return self.picture_rows(self._loaded(split, batches), told)

    @torch.inference_mode()
    def picture_rows(self, batches: Iterable[Any], told: Callable[[int], None]) -> list[np.ndarray]:
        """float32 (B, D + 1) of each batch of prepared pictures: unit rows, and in a last column their lengths before.

        `told(done)` after each batch, with the number of pictures so far.
        """
        rows: list[np.ndarray] = []
        waiting: list[torch.Tensor] = []  # on the device: fetching each at once would keep it waiting
        done = 0
        for pictures in moved_ahead(iter(batches), self.device, self._moved):
            with self._autocast():
                features = self.towers.clip.encode_image(pictures)
            features = features.float()
            waiting.append(torch.cat([normalize(features, dim=-1), features.norm(dim=-1, keepdim=True)], 1))
            if self.device.type == "cpu" or len(waiting) == FETCHED:
                rows += [both.cpu().numpy() for both in waiting]
                waiting.clear()
            done += len(features)
            told(done)
        return rows + [both.cpu().numpy() for both in waiting]

    def _loaded(self, split: Source, batches: list[list[int]]) -> Iterator[Any]:
        """The pictures of each of `batches`, by loader processes; pinned for a GPU."""
        options: dict[str, Any] = {}
        if self.workers:
            size = 4 * 3 * self.towers.image_size**2 * self.batch_size
            options = {"num_workers": self.workers, "prefetch_factor": batches_ahead(size, self.workers)}
            options["multiprocessing_context"] = loader_context()
        pinned = self.device.type == "cuda"
        loader = DataLoader(
            _Pictures(split, self.towers), batch_sampler=batches, pin_memory=pinned, **options
        )
        return watched(iter(loader), self.workers, lambda: "fewer --workers need less memory")

    def _autocast(self) -> torch.autocast:
        chosen = self.towers.autocast is not None
        return torch.autocast(self.device.type, torch.bfloat16, enabled=chosen)

    def _moved(self, pictures: Any) -> Any:
        """A batch on the device: one tensor, or the several of an image processor by name."""
        if isinstance(pictures, dict):
            return {name: part.to(self.device, non_blocking=True) for name, part in pictures.items()}
        layout = torch.channels_last if self.towers.channels_last else torch.preserve_format
        return pictures.to(self.device, non_blocking=True, memory_format=layout)

    @torch.inference_mode()
    def _text_batches(self, texts: list[str], what: str, part: int = 0, of: int = 1) -> list[np.ndarray]:
        """Unit rows of every batch of `texts`, or of each `of`-th from number `part` on."""
        tokens = self.towers.tokenize(texts)
        rows: list[np.ndarray] = []
        for batch in self._batches(len(texts))[part::of]:
            ids = tokens[batch.start : batch.stop]
            ids = self.towers.without_padding(ids)
            with self._autocast():
                features = self.towers.encode_text(torch.from_numpy(ids).to(self.device))
            rows.append(normalize(features.float(), dim=-1).cpu().numpy())
            self.progress(what, min(batch.stop + (of - 1) * self.batch_size, len(texts)), len(texts))
        return rows

    def _batches(self, count: int) -> list[range]:
        """The same batches however many processes share them, so that every row comes out the same."""
        starts = range(0, count, self.batch_size)
        return [range(start, min(start + self.batch_size, count)) for start in starts]

    @torch.inference_mode()
    def _dimension(self) -> int:
        tokens = torch.from_numpy(self.towers.tokenize([""])).to(self.device)
        return int(self.towers.encode_text(tokens).shape[1])
