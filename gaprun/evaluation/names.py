"""The names of everything gaprun measures: which way is better, the families, and the short names of the
command line. Standard library only, because `compare` and `runs` read it and must start fast."""

from __future__ import annotations

import difflib

from gaprun.errors import UserError

UP, DOWN, NONE = "up", "down", "none"

METRIC_FAMILIES: dict[str, tuple[str, ...]] = {
    "geometry": (
        "gap",
        "rmg",
        "alignment",
        "distribution_gap",
        "matched_cosine",
        "mismatched_cosine",
        "uniformity_image",
        "uniformity_text",
        "uniformity_joint",
        "uniformity_w2_image",
        "uniformity_w2_text",
        "uniformity_w2_joint",
        "separability",
        "separability_auc",
        "effective_rank_image",
        "effective_rank_text",
        "cka",
        "frechet",
        "mismatched_share",
    ),
    "retrieval": (
        "image_recall@1",
        "image_recall@5",
        "image_recall@10",
        "text_recall@1",
        "text_recall@5",
        "text_recall@10",
        "image_median_rank",
        "text_median_rank",
        "repeated_captions",
    ),
    "zeroshot": ("zeroshot_top1", "zeroshot_top5", "zeroshot_mean_class"),
    "probe": ("probe_top1", "probe_penalty"),
    "sugarcrepe": (
        "sugarcrepe",
        "sugarcrepe_add_att",
        "sugarcrepe_add_obj",
        "sugarcrepe_replace_att",
        "sugarcrepe_replace_obj",
        "sugarcrepe_replace_rel",
        "sugarcrepe_swap_att",
        "sugarcrepe_swap_obj",
    ),
    "winoground": ("winoground_text", "winoground_image", "winoground_group"),
    "mmvp": (
        "mmvp",
        "mmvp_camera_perspective",
        "mmvp_color",
        "mmvp_orientation",
        "mmvp_presence",
        "mmvp_quantity",
        "mmvp_spatial",
        "mmvp_state",
        "mmvp_structural_character",
        "mmvp_text",
    ),
    "clustering": (
        "cluster_v_measure",
        "cluster_nmi",
        "cluster_ari",
        "cluster_modality",
        "cluster_purity_modality",
    ),
    "mixed": (
        "mixed_recall@1",
        "mixed_recall@5",
        "mixed_recall@10",
        "mixed_ndcg@10",
        "mixed_recall@10_image",
        "mixed_recall@10_text",
        "mixed_recall@10_mixture",
        "mixed_top10_image",
        "mixed_top10_text",
        "mixed_top10_mixture",
    ),
    "transfer": (
        "transfer_text_to_image",
        "transfer_image_to_text",
        "transfer_image_to_image",
        "transfer_text_to_text",
        "transfer_kept",
    ),
    "intra": ("intra_precision@1", "intra_recall@5", "intra_map"),
    "training": ("temperature", "loss"),
}

# Uniformity has two conventions: Wang & Isola's log potential falls as points spread, Fang's -W2 rises.
# The gap and its kin get DOWN because closing it is what the methods are for; whether that helps is the
# paper's question, which the table's other columns answer.
_DOWN = {
    "gap",
    "rmg",
    "alignment",
    "distribution_gap",
    "uniformity_image",
    "uniformity_text",
    "uniformity_joint",
    "separability",
    "separability_auc",
    "frechet",
    "mismatched_share",
    "image_median_rank",
    "text_median_rank",
    "cluster_modality",
    "cluster_purity_modality",
    "loss",
}
_NONE = {
    "mismatched_cosine",
    "temperature",
    "probe_penalty",
    "repeated_captions",
    "mixed_top10_image",
    "mixed_top10_text",
    "mixed_top10_mixture",
}

DIRECTION: dict[str, str] = {
    name: DOWN if name in _DOWN else NONE if name in _NONE else UP
    for family in METRIC_FAMILIES.values()
    for name in family
}
"""For every metric name: 'up' (higher is better), 'down' or 'none' (a description, not a score)."""

_SHORT: dict[str, tuple[str, ...]] = {
    **{f"recall@{k}": (f"image_recall@{k}", f"text_recall@{k}") for k in (1, 5, 10)},
    "median_rank": ("image_median_rank", "text_median_rank"),
    "uniformity": ("uniformity_image", "uniformity_text", "uniformity_joint"),
    "uniformity_w2": ("uniformity_w2_image", "uniformity_w2_text", "uniformity_w2_joint"),
    "effective_rank": ("effective_rank_image", "effective_rank_text"),
    "cosine": ("matched_cosine", "mismatched_cosine"),
}


SHORT_NAMES = (*_SHORT, *(name for name in METRIC_FAMILIES if name not in DIRECTION))
"""What stands for several metrics at once."""


def direction(name: str) -> str:
    """'up', 'down' or 'none' for a metric name; a name nobody registered has no better side ('none')."""
    return DIRECTION.get(name, NONE)


def transform_of(protocol: str) -> str:
    """What was done to the embeddings before they were measured: "" for nothing, else the protocol (`shift=1`).

    Another transform is another experiment: its values stand nowhere for those of the model as it is.
    """
    base = protocol.partition(", ")[0]
    return base if base == "centred" or any(sign in base for sign in "=+") else ""


def expand_metric(name: str) -> list[str]:
    """The metric names behind what a user typed: a full name stands for itself, a short name for its parts
    (`recall@5` -> `image_recall@5`, `text_recall@5`), a family for all its members (`geometry`).

    A name with a family's meaning and a metric's (`sugarcrepe`, `mmvp`) is the metric.
    Raises UserError with the nearest names when nothing fits.
    """
    if name in DIRECTION:
        return [name]
    if name in _SHORT:
        return list(_SHORT[name])
    if name in METRIC_FAMILIES:
        return list(METRIC_FAMILIES[name])
    known = [*DIRECTION, *_SHORT, *METRIC_FAMILIES]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known names: {', '.join([*_SHORT, *DIRECTION])}"
    raise UserError(f"unknown metric {name!r}: {hint}")
