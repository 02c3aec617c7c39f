"""A run, checkpoint or other model as an encoder that mteb evaluates: `mteb.evaluate(encoder("baseline-s0"), tasks)`.

Loading, preprocessing, tokenizer and precision are those of `gaprun eval --ckpt`, so that mteb's numbers and gaprun's
are of the same embeddings. mteb's instructions are not used: the towers know none. torch is loaded by the first call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gaprun.errors import Failure, UserError
from gaprun.extras import require

if TYPE_CHECKING:
    import numpy as np
    import torch

    from gaprun.evaluation.embed import StoredEmbedder


def encoder(
    model: str,
    *,
    pretrained: str | None = None,
    db: str | None = None,
    device: str = "auto",
    batch_size: int = 256,
) -> Encoder:
    """What `mteb.evaluate` takes as a model, of a run or whatever else `gaprun eval --ckpt` takes as `model`.

    `pretrained`: `model` is an architecture of open_clip and this its tag or weights, as for `eval --model`. The model
    is called `gaprun/RUN`, and its revision is the hash of all that decides its embeddings, so that mteb finds its own
    results again only for the same ones. Raises UserError where mteb is not installed, for what `eval` refuses, and for
    a file of embeddings: it holds neither pictures nor words by which the rows of mteb's inputs could be found.
    """
    from gaprun.evaluation.given import is_given

    if is_given(model):
        raise UserError(
            f"{model} holds embeddings without the pictures and words that they are of, so that mteb's inputs cannot "
            "be found in it: name the model that made them"
        )
    require("mteb", "mteb")
    from gaprun.evaluation.embed import StoredEmbedder
    from gaprun.jobs.load import load_model
    from gaprun.runtime.environment import pick_device
    from gaprun.runtime.kernels import set_kernels
    from gaprun.runtime.spec import Compute
    from gaprun.store import open_store

    where = pick_device(device)
    store = open_store(db)
    if pretrained is None:
        loaded = load_model(store, model, None, None)
    else:
        loaded = load_model(store, None, model, pretrained)
    store.close()
    set_kernels(loaded.recipe.compute if loaded.recipe else Compute(), where)
    embedder = StoredEmbedder(loaded.towers, loaded.checkpoint_hash, None, where, batch_size=batch_size)
    return Encoder(embedder, f"gaprun/{loaded.run_id}")


class Encoder:
    """mteb's EncoderProtocol (of version 2) over gaprun's embedder: unit rows, compared by their products."""

    def __init__(self, embedder: StoredEmbedder, name: str) -> None:
        """`name`: ORGANISATION/MODEL, under which mteb keeps its results."""
        self._embedder = embedder
        self._transform = embedder.towers.preprocess()
        self.mteb_model_meta = _meta(embedder, name)

    def encode(self, inputs: Iterable[Mapping[str, Any]], **how: Any) -> np.ndarray:
        """float32 (n, D): one row of length 1 for each picture (`image`) or text (`text`) of mteb's batches.

        Of mteb's other arguments only `precision` would change the rows: UserError unless it is float32. Also for
        batches of both kinds at once, or of neither; Failure for a picture that cannot be decoded.
        """
        import numpy as np

        if how.get("precision") not in (None, "float32"):
            raise UserError(f"precision {how['precision']}: gaprun's rows are float32")
        batches = iter(inputs)
        first = next(batches, None)
        if first is None:
            raise UserError("mteb gave nothing to embed")
        kind = _kind(first)
        items = _items(kind, first, batches)
        if kind == "text":
            return self._embedder.prompts(list(items), "texts")
        rows = self._embedder.picture_rows(self._pictures(items), lambda done: None)
        return np.ascontiguousarray(np.concatenate(rows)[:, :-1])

    def _pictures(self, items: Iterator[Any]) -> Iterator[Any]:
        """Batches as gaprun makes them whatever size mteb's have, so that every row comes out the same."""
        from torch.utils.data import default_collate

        from gaprun.data.decode import to_rgb
        from gaprun.data.errors import DamagedSample

        batch = []
        for number, image in enumerate(items):
            try:
                batch.append(self._transform(to_rgb(image)))
            except DamagedSample as error:
                raise Failure(f"picture {number} of mteb's inputs: {error.reason}") from None
            if len(batch) == self._embedder.batch_size:
                yield default_collate(batch)
                batch = []
        if batch:
            yield default_collate(batch)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """(n, m) cosines of (n, D) and (m, D) unit rows; one row alone counts as (1, D)."""
        import torch

        first, second = (torch.atleast_2d(torch.as_tensor(rows)) for rows in (embeddings1, embeddings2))
        return first @ second.T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """(n,) cosines of (n, D) and (n, D) unit rows."""
        import torch

        return (torch.as_tensor(embeddings1) * torch.as_tensor(embeddings2)).sum(-1)


def _kind(batch: Mapping[str, Any]) -> str:
    found = [name for name in ("image", "text", "audio", "video") if name in batch]
    if found not in (["image"], ["text"]):
        what = f"{' and '.join(found)} in one input" if found else f"{', '.join(batch)} and no text or image"
        raise UserError(
            f"mteb's task gives {what}; gaprun's towers embed a picture or a text: leave that task out"
        )
    return found[0]


def _items(kind: str, first: Mapping[str, Any], rest: Iterator[Mapping[str, Any]]) -> Iterator[Any]:
    yield from first[kind]
    for batch in rest:
        yield from batch[kind]


def _meta(embedder: StoredEmbedder, name: str) -> Any:
    towers = embedder.towers
    return require("mteb.models", "mteb").ModelMeta(
        loader=None,
        name=name,
        revision=embedder.identity.model_hash,
        release_date=None,
        languages=None,
        n_parameters=sum(parameter.numel() for parameter in towers.clip.parameters()),
        memory_usage_mb=None,
        max_tokens=towers.context_length,
        embed_dim=len(embedder.prompts([""])[0]),
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name="cosine",
        use_instructions=False,
        training_datasets=None,
        modalities=["image", "text"],
    )
