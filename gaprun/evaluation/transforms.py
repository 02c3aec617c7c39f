"""Maps of a model's embeddings, fitted on a training split and applied to what is measured: one class each.

The question that they ask: is the gap itself what matters, or can it be closed after training by a fixed map? A
transform is a value of the recipe (`name` and its options); `fit` reads matched training pairs and gives a `Map`, which
takes image rows and text rows (captions, prompts, class vectors) alike. Nothing is ever fitted on the rows that are
measured. Notation: unit rows x_i (images) and y_i (texts) of N training pairs, means mu_x, mu_y, covariances S_x, S_y.
A new transform is one class with `TRANSFORMS.register`, here or in a module that GAPRUN_PLUGINS names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gaprun.errors import UserError
from gaprun.registry import Registry
from gaprun.section import Section

if TYPE_CHECKING:  # numpy only where something is moved: every command reads the declarations
    from gaprun.evaluation.embeddings import Array, Embeddings
    from gaprun.evaluation.moments import Moments

_NO_DIRECTION = 1e-6  # shorter than float32 rounding: what direction is left is noise


@dataclass(frozen=True)
class Step:
    """`unit(row @ matrix + offset)`: matrix (D, D), offset (D,), both float64; None leaves that part out."""

    matrix: Array | None = None
    offset: Array | None = None

    def __call__(self, rows: Array, what: str) -> Array:
        """Moved unit rows, float64 (n, D). Raises UserError for a row that lands on the origin."""
        import numpy as np

        from gaprun.evaluation.embeddings import unit_rows

        moved = np.asarray(rows, dtype=np.float64)
        if self.matrix is not None:
            moved = moved @ self.matrix
        moved = moved + self.offset if self.offset is not None else moved.copy()
        moved[np.linalg.norm(moved, axis=1) < _NO_DIRECTION] = 0.0
        return unit_rows(moved, f"moved {what}")


@dataclass(frozen=True)
class Map:
    """A fitted transform: what is done to image rows and to text rows, one step after the other."""

    image_steps: tuple[Step, ...] = ()
    text_steps: tuple[Step, ...] = ()

    def images(self, rows: Array) -> Array:
        """Image rows (n, D) after the map: unit rows, float32."""
        return _through(self.image_steps, rows, "image")

    def texts(self, rows: Array) -> Array:
        """Caption, prompt or class rows (n, D) after the map: unit rows, float32."""
        return _through(self.text_steps, rows, "text")

    def apply(self, embeddings: Embeddings) -> Embeddings:
        """Embeddings after the map, owners and labels kept.

        Raises UserError where a row lands on the origin and has no direction left.
        """
        from gaprun.evaluation.embeddings import Embeddings

        return Embeddings(
            images=self.images(embeddings.images),
            texts=self.texts(embeddings.texts),
            owner=embeddings.owner,
            labels=embeddings.labels,
        )


def _through(steps: tuple[Step, ...], rows: Array, what: str) -> Array:
    if not steps:
        return rows
    moved = rows
    for step in steps:
        moved = step(moved, what)
    return moved.astype("float32")


@dataclass(frozen=True)
class Pairs:
    """What a transform is fitted on: moments of matched unit rows, every image with its first caption, and the rows."""

    moments: Moments
    texts: Array

    def text_mean(self, step: Step, chunk: int = 16_384) -> Array:
        """Mean of the text rows after `step`, float64 (D,)."""
        import numpy as np

        from gaprun.evaluation.embeddings import unit_rows

        total = np.zeros(self.texts.shape[1])
        for start in range(0, len(self.texts), chunk):
            total += step(unit_rows(self.texts[start : start + chunk], "text", start), "text").sum(0)
        return total / len(self.texts)


class Transform(Section):
    """What every transform offers: options of its own, and `fit`."""

    name: str

    @property
    def label(self) -> str:
        """Name and the options that are not at their defaults: part of a protocol's id. `shift,fraction=0.5`."""
        own = self.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        return ",".join([self.name, *(f"{key}={value}" for key, value in own.items())])

    def fit(self, train: Embeddings) -> Map:
        """The map for embeddings of the model that made `train`. Raises UserError without captioned images."""
        from gaprun.evaluation.moments import pair_moments

        images, texts = train.pairs()
        if len(images) == 0:
            raise UserError(f"transform {self.name}: no captioned images to fit it on")
        return self._fitted(Pairs(pair_moments(images, texts), texts))

    def _fitted(self, pairs: Pairs) -> Map:
        raise TypeError(f"{type(self).__name__} has no formula")


TRANSFORMS: Registry[Transform] = Registry("transform", "name")
AnyTransform = Annotated[Transform, TRANSFORMS]


@TRANSFORMS.register
class Identity(Transform):
    """The embeddings as they are."""

    name: Literal["identity"] = "identity"

    def _fitted(self, pairs: Pairs) -> Map:
        return Map()


@TRANSFORMS.register
class Shift(Transform):
    """`x - (f/2) g` and `y + (f/2) g` with the gap vector `g = mu_x - mu_y`, back on the sphere (Liang et al. 2022)."""

    name: Literal["shift"] = "shift"
    fraction: float = Field(
        1.0, description="Share f of the gap to move by: 0 changes nothing, at 1 the centroids meet."
    )

    def _fitted(self, pairs: Pairs) -> Map:
        m = pairs.moments
        half = 0.5 * self.fraction * (m.mean_x - m.mean_y)
        return Map((Step(offset=-half),), (Step(offset=half),))


@TRANSFORMS.register
class Centre(Transform):
    """`x - mu_x` and `y - mu_y`, back on the sphere: takes the offset of each modality away, and the shared one."""

    name: Literal["centre"] = "centre"

    def _fitted(self, pairs: Pairs) -> Map:
        m = pairs.moments
        return Map((Step(offset=-m.mean_x),), (Step(offset=-m.mean_y),))


@TRANSFORMS.register
class Standardise(Transform):
    """`(x - mu_x) / sd_x` and the same for texts, coordinate by coordinate, back on the sphere.

    sd divides by N; a coordinate without spread is left at its centred value.
    """

    name: Literal["standardise"] = "standardise"

    def _fitted(self, pairs: Pairs) -> Map:
        import numpy as np

        def step(mean: Array, covariance: Array) -> Step:
            spread = np.sqrt(np.diag(covariance))
            scale = 1.0 / np.where(spread > _NO_DIRECTION, spread, 1.0)
            return Step(matrix=np.diag(scale), offset=-mean * scale)

        m = pairs.moments
        return Map((step(m.mean_x, m.cov_x),), (step(m.mean_y, m.cov_y),))


@TRANSFORMS.register
class ReAlign(Transform):
    """Texts are brought into the images' distribution (Yu et al. 2026, arXiv 2602.07026): anchor, trace, centroid.

    `y' = unit(mu_x + s (y - mu_y))` with `s = sqrt(tr S_x / tr S_y)`, then `y'' = unit(y' - mean(y') + mu_x)`. Images
    stay. The published method fits it on unpaired rows; only means and traces are read here too.
    """

    name: Literal["realign"] = "realign"

    def _fitted(self, pairs: Pairs) -> Map:
        import numpy as np

        m = pairs.moments
        spread_x, spread_y = float(np.trace(m.cov_x)), float(np.trace(m.cov_y))
        if spread_y < _NO_DIRECTION**2:
            raise UserError("transform realign: all texts are one point, so their spread cannot be matched")
        s = (spread_x / spread_y) ** 0.5
        matched = Step(matrix=s * np.eye(m.dim), offset=m.mean_x - s * m.mean_y)
        return Map((), (matched, Step(offset=m.mean_x - pairs.text_mean(matched))))


@TRANSFORMS.register
class Procrustes(Transform):
    """`y -> y R` with the orthogonal R that minimises `sum ||x_i - y_i R||^2`: `R = U V'` of `Y'X = U S V'`.

    Schönemann 1966. Needs pairs. `centre` fits and applies it about the two means, which also moves texts onto mu_x.
    """

    name: Literal["procrustes"] = "procrustes"
    centre: bool = Field(False, description="Rotate about the means: y -> unit(mu_x + (y - mu_y) R).")

    def _fitted(self, pairs: Pairs) -> Map:
        import numpy as np

        m = pairs.moments
        cross = m.scatter_xy.T
        if not self.centre:
            cross = cross + m.count * np.outer(m.mean_y, m.mean_x)
        u, _, vt = np.linalg.svd(cross)
        rotation = u @ vt
        return Map(
            (), (Step(matrix=rotation, offset=m.mean_x - m.mean_y @ rotation if self.centre else None),)
        )


@TRANSFORMS.register
class DropDimensions(Transform):
    """The `k` coordinates in which the means differ most are set to 0 in both clouds.

    After Schrodi et al. 2025, who find that few coordinates carry the gap.
    """

    name: Literal["drop-dimensions"] = "drop-dimensions"
    k: int = Field(1, ge=1, description="How many coordinates go; fewer than the embedding has.")

    def _fitted(self, pairs: Pairs) -> Map:
        import numpy as np

        order = np.argsort(-np.abs(pairs.moments.mean_x - pairs.moments.mean_y), kind="stable")
        kept = np.ones(len(order))
        kept[order[: _fewer(self.k, len(order), self.name)]] = 0.0
        step = Step(matrix=np.diag(kept))
        return Map((step,), (step,))


@TRANSFORMS.register
class DropComponents(Transform):
    """The `k` directions that carry most of `x_i - y_i` are projected out of both clouds.

    Right singular vectors of the (N, D) matrix of differences, not centred: the first is close to the gap vector
    where the gap is large, the next ones are the residual's. Needs pairs.
    """

    name: Literal["drop-components"] = "drop-components"
    k: int = Field(1, ge=1, description="How many directions go; fewer than the embedding has.")

    def _fitted(self, pairs: Pairs) -> Map:
        import numpy as np

        m = pairs.moments
        gap = m.mean_x - m.mean_y
        spread = m.scatter_xx + m.scatter_yy - m.scatter_xy - m.scatter_xy.T
        _, vectors = np.linalg.eigh(spread + m.count * np.outer(gap, gap))
        top = vectors[:, ::-1][:, : _fewer(self.k, len(vectors), self.name)]
        step = Step(matrix=np.eye(len(vectors)) - top @ top.T)
        return Map((step,), (step,))


def _fewer(k: int, dimensions: int, name: str) -> int:
    if k >= dimensions:
        raise UserError(
            f"transform {name}: k is {k} and the embedding has {dimensions} dimensions; take fewer"
        )
    return k
