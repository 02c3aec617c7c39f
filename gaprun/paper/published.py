"""The published numbers of Tables 2, 3 and 5, and how the paper's columns are called here.

Source: Yaras, Chen, Wang, Qu, "Explaining and Mitigating the Modality Gap in Contrastive Multimodal Learning",
arXiv 2412.07909. Means of three seeds; no standard deviations were published.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "Yaras et al., arXiv 2412.07909"
SETTING = {
    "model": "RN50 from scratch",
    "data": "MSCOCO train (about 118,000 pairs [inferred])",
    "length": "100 epochs",
    "batch": "1024",
    "seeds": "3",
    "gap and retrieval on": "512 random pairs of MSCOCO test (retrieval: [inferred])",
    "classification on": "CIFAR-10",
}


@dataclass(frozen=True)
class Measure:
    """One column of the paper and the stored metric that stands beside it; `pool`: of the pool protocol."""

    label: str
    metric: str
    pool: bool
    note: str = ""


GAP = Measure("gap", "gap", True)
UNIFORMITY = Measure(
    "uniformity",
    "uniformity_w2_joint",
    True,
    "read as -W2 over both modalities [inferred: the paper does not say]",
)
ZEROSHOT = Measure("zero-shot", "zeroshot_top1", False)
PROBE = Measure("linear probe", "probe_top1", False)
IMAGE = Measure("image top-1", "image_recall@1", True, "read as over a pool of 512 pairs [inferred]")
TEXT = Measure("text top-1", "text_recall@1", True, "read as over a pool of 512 pairs [inferred]")


@dataclass(frozen=True)
class Row:
    """One setting of a table: method key, its published value (None where it has none), values by measure label."""

    method: str
    value: float | None
    published: tuple[float | None, ...]


@dataclass(frozen=True)
class PublishedTable:
    """A table of the paper: `rows[i].published[j]` belongs to `measures[j]`."""

    name: str
    title: str
    measures: tuple[Measure, ...]
    rows: tuple[Row, ...]


TABLES = {
    "table2": PublishedTable(
        "table2",
        "Table 2: the seven methods",
        (GAP, UNIFORMITY, ZEROSHOT, PROBE, IMAGE, TEXT),
        (
            Row("baseline", None, (0.294, -1.165, 13.65, 65.55, 68.23, 78.37)),
            Row("FLT", 0.04, (0.122, -1.183, 14.40, 61.98, 73.44, 82.66)),
            Row("TS", 0.05, (0.088, -1.108, 17.17, 67.50, 75.72, 85.31)),
            Row("TR", None, (0.284, -1.153, 14.86, 66.46, 70.06, 80.10)),
            Row("SLRT", 0.1, (0.268, -1.152, 15.13, 66.63, 70.32, 80.40)),
            Row("HS", 1e-3, (0.225, -1.156, 13.91, 65.95, 69.72, 79.74)),
            Row("SS", 5e-2, (0.139, -1.152, 14.33, 64.94, 68.91, 79.16)),
        ),
    ),
    "table3": PublishedTable(
        "table3",
        "Table 3: the sweep of fixed temperatures",
        (GAP, IMAGE, TEXT, PROBE),
        (
            Row("FLT", 0.01, (0.669, 69.89, 80.68, 69.44)),
            Row("FLT", 0.02, (0.334, 70.54, 81.30, 68.41)),
            Row("FLT", 0.04, (0.122, 73.44, 82.66, 61.98)),
            Row("FLT", 0.07, (0.033, 75.53, 82.88, 49.61)),
            Row("FLT", 0.1, (0.019, 66.55, 73.58, 48.29)),
            Row("FLT", 0.2, (0.008, 23.97, 26.94, 50.14)),
            Row("FLT", 0.4, (0.009, 6.90, 8.70, 37.97)),
        ),
    ),
    "table5": PublishedTable(
        "table5",
        "Table 5: hard swapping in a growing share of steps",
        (GAP, PROBE, IMAGE),
        (Row("HS", 1e-3, (0.225, 65.95, 69.72)), Row("HS", 1.0, (0.028, 39.72, 47.17))),
    ),
}
