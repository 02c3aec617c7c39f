"""Are the modalities interchangeable? A classifier fitted on rows of one and tested on rows of the other.

After Zhang et al. 2023 (*Diagnosing and Rectifying Vision Models using Language*): where texts and images of a class
lie in one place, a linear classifier that has seen only texts works on images, and the reverse.
"""

from __future__ import annotations

from dataclasses import dataclass

from gaprun.evaluation.embeddings import Array
from gaprun.evaluation.probe import fit_logistic

PENALTY = 1e4  # scikit-learn's C on unit rows; few texts a class leave nothing to choose it on


@dataclass(frozen=True)
class Side:
    """Labelled unit rows of one modality: those to fit on and those to test on; rows (n, D), labels (n,)."""

    fit_rows: Array
    fit_labels: Array
    test_rows: Array
    test_labels: Array


def transfer_measures(images: Side, texts: Side, *, penalty: float = PENALTY) -> dict[str, float]:
    """`transfer_<from>_to_<to>` for both modalities on both sides: top-1 in percent, and the ratio of crossing.

    `transfer_kept`: mean of (text to image / image to image) and (image to text / text to text), 0..: 1 where a
    classifier is worth as much on the other modality as on its own. A tie is no hit. Raises UserError below two
    classes.
    """
    values: dict[str, float] = {}
    for source, fitted in (("image", images), ("text", texts)):
        model = fit_logistic(fitted.fit_rows, fitted.fit_labels, penalty)
        for target, tested in (("image", images), ("text", texts)):
            hits = model.correct(tested.test_rows, tested.test_labels)
            values[f"transfer_{source}_to_{target}"] = 100.0 * float(hits.mean())
    own = values["transfer_image_to_image"], values["transfer_text_to_text"]
    if min(own) > 0:
        crossed = values["transfer_text_to_image"] / own[0], values["transfer_image_to_text"] / own[1]
        values["transfer_kept"] = sum(crossed) / 2
    return values
