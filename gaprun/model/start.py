"""The weights that training starts from: what `model.pretrained` names, what it counts as, how it is put into towers.

A tag of open_clip, a weights file of another program, or a checkpoint of gaprun's: its file, its run's folder, or the
folder of checkpoints (the newest). The recipe alone says what is trained: an architecture or a vocabulary that the
weights do not fit is refused, other picture settings are said.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP

from gaprun.errors import Failure, UserError
from gaprun.files import file_sha256
from gaprun.model.hub import hub_asked
from gaprun.model.openclip import FOLDER, canonical, first_line, named_config
from gaprun.model.params import trained_beside
from gaprun.model.saved import load_checkpoint, newest_checkpoint, read_note, weights_hash
from gaprun.model.spec import Model
from gaprun.model.vocabulary import Vocabulary
from gaprun.model.weights import load_weights, model_state, read_tensors

Content = dict[str, Any]


@dataclass(frozen=True)
class Start:
    """What `model.pretrained` names. `path`: None for a tag of open_clip; `content`: of a checkpoint of gaprun's."""

    model: Model
    path: Path | None
    content: Content | None

    @classmethod
    def of(cls, model: Model) -> Start:
        """Find and read it. Raises UserError where there is none, it is damaged, or its vocabulary is asked for and not
        known."""
        path = None if _is_tag(model) else weights_file(model)
        found = cls(model, path, None if path is None else _own(path))
        _check_vocabulary_known(model, found.content is not None)
        return found

    @property
    def picture(self) -> dict[str, Any]:
        """The picture settings that it was trained with, where a file says them; a tag's the towers are built with.

        Raises UserError where a params.txt beside a file says another architecture than the recipe.
        """
        if self.content is not None:
            return dict(self.content.get("preprocessing") or {})
        return {} if self.path is None else _picture_beside(self.model, self.path)

    def put_in(self, clip: CLIP, architecture: Mapping[str, Any], vocabulary: Vocabulary | None) -> list[str]:
        """Put the weights into `clip`, which was built as `architecture` for `vocabulary`; returns what must be said.

        Raises UserError where they do not fit or are not the recipe's (`pretrained_sha256`), Failure when a download
        does not succeed.
        """
        model, named = self.model, f"model.pretrained {self.model.pretrained}"
        if self.path is None:
            _download(clip, str(model.arch), str(model.pretrained))
            return []
        complaint = f"{named}: its weights do not fit {model.arch or 'model.inline'}"
        if self.content is None:
            remarks: list[str] = []
            load_weights(clip, model_state(read_tensors(self.path), self.path, remarks), complaint)
            return remarks
        if model.pretrained_sha256 not in (None, _hash(self.path, self.content)):
            raise UserError(f"{named}: its weights changed since the jobs were made; start the command again")
        _check_architecture(named, self.content, architecture)
        _check_vocabulary(named, self.content.get("vocabulary"), vocabulary)
        load_weights(clip, self.content["clip"], complaint)
        ended = math.exp(-float(self.content["clip"]["logit_scale"]))
        return [
            f"starts from step {self.content['step']} of {self.content.get('run')}, where the temperature was "
            f"{ended:.3g}; here it starts as this recipe says"
        ]


def weights_sha256(model: Model) -> str | None:
    """What the weights that `model.pretrained` names count by; None for a tag.

    A checkpoint of gaprun's counts by its weights hash, so that the same trained weights are the same start whatever
    else is saved beside them; another file by its own sha256. Raises UserError as `Start.of`, and where a checkpoint is
    not what its note says.
    """
    path = None if _is_tag(model) else weights_file(model)
    if path is None:
        _check_vocabulary_known(model, False)
        return None
    state = path.stat()
    found, ours = _counted(path.resolve(), state.st_ino, state.st_size, state.st_mtime_ns)
    _check_vocabulary_known(model, ours)
    return found


@lru_cache(maxsize=64)
def _counted(path: Path, *signature: int) -> tuple[str, bool]:
    content = _own(path)
    return (file_sha256(path), False) if content is None else (_hash(path, content), True)


def _is_tag(model: Model) -> bool:
    if model.arch is None or not re.fullmatch(r"[\w-]+", str(model.pretrained)):
        return False  # no tag has a dot or a slash
    return bool(open_clip.get_pretrained_cfg(model.arch, str(model.pretrained)))


def weights_file(model: Model) -> Path:
    """The file that `model.pretrained` names where it is no tag: of a run's folder, or its folder of checkpoints, the
    newest. Raises UserError where there is none, or that one is damaged."""
    path = Path(str(model.pretrained))
    if path.is_file():
        return path
    for folder in (path, path / "checkpoints"):
        try:
            newest, damaged = newest_checkpoint(folder)
        except FileNotFoundError:
            continue
        if damaged:
            raise UserError(
                f"model.pretrained {path}: its newest checkpoint {damaged[0].name} is damaged; name an older one to "
                f"start from it: {newest}"
            )
        return newest
    raise UserError(f"model.pretrained {path}: {_nothing_there(model, path)}")


def _nothing_there(model: Model, path: Path) -> str:
    if path.is_dir():
        return "no intact checkpoint of gaprun's in this folder, nor in its folder checkpoints"
    if model.arch is None:
        return "no such weights file or run's folder (open_clip's tags are for an arch, not for model.inline)"
    tags = open_clip.list_pretrained_tags_by_model(model.arch)
    near = difflib.get_close_matches(str(model.pretrained), tags, 1, 0.4)
    hint = f"did you mean {near[0]}?" if near else f"{model.arch} has: {', '.join(tags) or 'none'}"
    return f"neither a tag of {model.arch} nor a weights file or run's folder; {hint}"


def _check_vocabulary_known(model: Model, ours: bool) -> None:
    if model.vocabulary == "used" and not ours:
        raise UserError(
            f"model.pretrained {model.pretrained}: only gaprun's own checkpoints say which token ids they know; other "
            "pretrained weights need the full vocabulary: set model.vocabulary to full"
        )


def _own(path: Path) -> Content | None:
    """The content of a checkpoint that gaprun wrote; None for any other file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # of another kind, or damaged: whoever reads it says so
        return None
    return load_checkpoint(path) if isinstance(content, dict) and {"clip", "recipe"} <= {*content} else None


def _hash(path: Path, content: Content) -> str:
    found, note = weights_hash(content["clip"], content["head"]), read_note(path)
    if note is not None and note.get("weights_hash") != found:
        raise UserError(
            f"{path}: damaged: its weights are not those that {path.with_suffix('.json').name} names"
        )
    return found


def _picture_beside(model: Model, path: Path) -> dict[str, Any]:
    """What the params.txt of a weights file says of pictures; the recipe's hash knows the weights and not that file, so
    one that says another architecture is refused."""
    trained = trained_beside(path)
    if trained is None or model.arch is None:
        return {} if trained is None else dict(trained.settings.picture)
    arch = model.arch
    what, named = f"model.pretrained {model.pretrained}: {trained.path} says", trained.arch or arch
    if named != arch and named not in open_clip.list_models() and not named.startswith(FOLDER):
        raise UserError(f"{what} model {named}: set model.arch to it")
    ours, theirs = _features(named_config(arch)), _features(trained.settings.applied(named_config(named)))
    names = sorted(name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name))
    if names:
        raise UserError(
            f"{what} that it was trained as {named} with another {', '.join(names)} than {arch} has: name an "
            f"architecture that says so, such as {named}, {named}-quickgelu or {FOLDER}FOLDER"
        )
    return dict(trained.settings.picture)


def _features(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides features in a configuration; where the text tower's weights are kept does not."""
    return {name: value for name, value in canonical(config).items() if name != "custom_text"}


def _check_architecture(named: str, content: Content, architecture: Mapping[str, Any]) -> None:
    theirs = content.get("architecture")
    if theirs is None:
        raise UserError(
            f"{named}: a checkpoint of an earlier gaprun, which does not say its architecture; train it again"
        )
    ours, known = _flat(_features(architecture)), _flat(_features(theirs))
    # The vocabulary's size is the data's: _check_vocabulary says what is wrong with it.
    names = sorted({k for k in {**ours, **known} if ours.get(k) != known.get(k)} - {"text_cfg.vocab_size"})
    if names:
        said = "; ".join(
            f"{name} {known.get(name, 'not set')}, here {ours.get(name, 'not set')}" for name in names[:3]
        )
        raise UserError(
            f"{named}: weights of another architecture than this recipe's ({said}): take the model of the recipe.yaml "
            "in the folder of its run"
        )


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in config.items():
        inside = _flat(value) if isinstance(value, Mapping) else {"": value}
        found |= {f"{name}.{key}".rstrip("."): one for key, one in inside.items()}
    return found


def _check_vocabulary(named: str, theirs: list[int] | None, ours: Vocabulary | None) -> None:
    if theirs is None and ours is not None:
        raise UserError(f"{named}: trained with the full vocabulary: set model.vocabulary to full")
    if theirs is not None and ours is None:
        raise UserError(f"{named}: trained with the vocabulary of its captions: set model.vocabulary to used")
    if theirs is not None and ours is not None and theirs != ours.ids:
        raise UserError(
            f"{named}: its vocabulary (model.vocabulary: used) is that of other captions: it lacks "
            f"{len({*ours.ids} - {*theirs})} token ids of these, and has {len({*theirs} - {*ours.ids})} others; start "
            "from weights that were trained with model.vocabulary: full"
        )


def _download(clip: CLIP, arch: str, tag: str) -> None:
    try:
        with hub_asked():
            path = open_clip.download_pretrained(open_clip.get_pretrained_cfg(arch, tag))
        open_clip.load_checkpoint(clip, path)
    except Exception as error:
        raise Failure(
            f"{arch} {tag}: weights could not be downloaded ({first_line(error)}); with network access "
            "open_clip keeps them in its cache, or give the path of a weights file as the tag"
        ) from None
