"""What a model makes of a split as one .npz, in the form that `gaprun eval --embeddings` reads."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gaprun.data.split import open_split
from gaprun.errors import UserError
from gaprun.evaluation.embed import StoredEmbedder
from gaprun.evaluation.given import read_given
from gaprun.evaluation.tasks.zeroshot import class_embeddings
from gaprun.files import check_replaceable, replace_file
from gaprun.jobs.load import load_model
from gaprun.runtime.environment import pick_device
from gaprun.store import Store

# The comment of the .zip that an .npz is: by it --force knows a file that gaprun wrote.
MARK = b"gaprun embeddings"
OLDER = "name another --out (embeddings of an older gaprun: remove them yourself)"


def export_embeddings(
    store: Store,
    model: str,
    data: str,
    out: Path,
    force: bool = False,
    device_name: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the embeddings that `model` (a run, or what else `--ckpt` takes) makes of the split `data` to `out`.

    Arrays as in `gaprun.evaluation.given`: rows of length 1 with the images' lengths before; where the split has
    classes their labels, names and text rows, the means over its own templates that zero-shot uses. What the store
    keeps is not encoded again. Returns run, numbers of images and texts, and the content hash that `eval --embeddings`
    gives the file. Raises UserError, also for a file that is there, unless with `force` for one that gaprun wrote.
    """
    if out.suffix != ".npz":
        raise UserError(f"--out {out}: embeddings are written as .npz: give the name that ending")
    if out.exists():
        if not force:
            raise UserError(f"{out} exists: name another --out, or --force to replace it")
        check_replaceable(out, _is_own, OLDER)
    split = open_split(data)
    device = pick_device(device_name)
    loaded = load_model(store, model, None, None)
    folder = store.artifacts / "embeddings"
    embedder = StoredEmbedder(loaded.towers, loaded.checkpoint_hash, folder, device, progress=progress)
    found = embedder.embeddings(split)
    arrays: dict[str, Any] = {"images": found.images}
    if found.image_norms is not None:
        arrays["image_norms"] = found.image_norms
    if len(found.texts):
        arrays |= {"texts": found.texts, "owner": found.owner}
    if found.labels is not None and split.classes is not None:
        arrays["labels"] = np.asarray(found.labels, dtype=np.int64)
        arrays["class_names"] = np.array(split.classes)
        arrays["class_texts"] = class_embeddings(embedder, split, None)

    def write(target: Path) -> None:
        with target.open("wb") as file:
            np.savez(file, **arrays)
        with zipfile.ZipFile(target, "a") as archive:
            archive.comment = MARK

    replace_file(out, write, _is_own, OLDER)
    content = read_given(out).content
    return {"run": loaded.run_id, "images": len(found.images), "texts": len(found.texts), "content": content}


def _is_own(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment == MARK
    except (OSError, zipfile.BadZipFile):
        return False
