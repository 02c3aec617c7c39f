"""Linear probes side by side: scikit-learn at one penalty, CLIP_benchmark's search, and gaprun at both jobs.

    python benchmarks/probe.py [--json] [--small]

50,000 x 512 features like a CLIP model's (unit rows off the origin, a falling spectrum), 10 classes;
`--small` takes 2,000 x 64. First, one fit at the same penalty: scikit-learn's LogisticRegression against
gaprun's fit. Then the whole probe: CLIP_benchmark's search over weight decays (20 trainings by AdamW)
against gaprun's path of nine penalties with its refit. CLIP_benchmark insists on CUDA; what asks for it is
replaced so that its own training and search run on this processor.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from harness import answer, arguments, report, rounds, timed

FULL = {"train": 50_000, "test": 10_000, "dim": 512, "penalty": 10.0}
SMALL = {"train": 2_000, "test": 2_000, "dim": 64, "penalty": 10.0}
VALIDATION = 0.2


def features(train: int, test: int, dim: int, penalty: float) -> tuple[np.ndarray, ...]:
    """(rows, labels) of both splits, float32 and int64."""
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, dim + 1, dtype=np.float32) ** -0.7
    spectrum *= np.sqrt(dim / (spectrum**2).sum())
    # Class distances that leave every width a task of similar difficulty.
    centres = 2.0 * dim**-0.5 * rng.standard_normal((10, dim), dtype=np.float32)
    offset = rng.standard_normal(dim, dtype=np.float32)
    labels = rng.integers(0, 10, train + test)
    rows = (centres[labels] + rng.standard_normal((len(labels), dim), dtype=np.float32)) * spectrum + offset
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[:train], labels[:train], rows[train:], labels[train:]


def sklearn(size: dict) -> dict:
    from sklearn.linear_model import LogisticRegression

    rows, labels, test_rows, test_labels = features(**size)
    result: dict = {}
    with timed(result), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=size["penalty"], max_iter=1000).fit(rows, labels)
    return result | {"accuracy": 100 * model.score(test_rows, test_labels)}


def ours_fit(size: dict) -> dict:
    from gaprun.evaluation.probe import fit_logistic

    rows, labels, test_rows, test_labels = features(**size)
    result: dict = {}
    with timed(result):
        model = fit_logistic(rows, labels, size["penalty"])
    return result | {"accuracy": 100 * float(model.correct(test_rows, test_labels).mean())}


def ours_probe(size: dict) -> dict:
    from gaprun.evaluation.probe import linear_probe

    splits = features(**size)
    result: dict = {}
    with timed(result):
        found = linear_probe(*splits, validation_share=VALIDATION)
    return result | {"accuracy": found.top1, "penalty": found.penalty, "path": len(found.path)}


def clip_benchmark(size: dict) -> dict:
    """clip_benchmark.metrics.linear_probe from the cached features on: its search, then its final
    training."""
    import torch
    from clip_benchmark.metrics import linear_probe as peer

    torch.set_num_threads(1)  # its batches of 64 gain nothing from a second
    torch.Tensor.cuda = lambda self, *_: self  # type: ignore[method-assign]
    torch.nn.Module.cuda = lambda self, *_: self  # type: ignore[method-assign]
    # Its own accuracy() fails with NumPy 2; this one computes the same.
    peer.accuracy = lambda output, target, topk: [float((output.argmax(1) == target).float().mean())]
    rows, labels, test_rows, test_labels = (torch.from_numpy(part) for part in features(**size))
    held_out = int(len(rows) * VALIDATION)

    def loader(rows: Any, labels: Any) -> Any:
        return torch.utils.data.DataLoader(peer.FeatureDataset(rows, labels), batch_size=64, shuffle=True)

    both, valid, train = (
        loader(rows[part], labels[part]) for part in (slice(None), slice(held_out), slice(held_out, None))
    )
    rest = (
        rows.shape[1],
        10,
        0.1,
        10,
        False,
        "cpu",
    )  # input, output, rate, epochs, amp, device: its defaults
    result: dict = {}
    with timed(result), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decays = np.logspace(-6, 2, num=97).tolist()
        first = [i for i, value in enumerate(decays) if value in np.logspace(-6, 2, num=7).tolist()]
        peak = peer.find_peak(decays, first, train, valid, *rest, False, 0)
        step = 8
        while step > 0:
            around = [max(peak - step, 0), peak, min(peak + step, len(decays) - 1)]
            peak = peer.find_peak(decays, around, train, valid, *rest, False, 0)
            step //= 2
        model = peer.train(both, rest[0], rest[1], decays[peak], *rest[2:], 0)
    with torch.no_grad():
        hits = model(test_rows).argmax(1) == test_labels
    return result | {"accuracy": 100 * float(hits.float().mean()), "weight_decay": decays[peak]}


CONTENDERS = {
    "sklearn": sklearn,
    "ours_fit": ours_fit,
    "clip_benchmark": clip_benchmark,
    "ours_probe": ours_probe,
}


def main() -> None:
    options = arguments(__doc__).parse_args()
    if options.child:
        contender = CONTENDERS[options.child]
        if options.child != "clip_benchmark":  # its training has no start-up to speak of
            contender({"train": 500, "test": 100, "dim": 16, "penalty": 1.0})  # loads libraries, untimed
        answer(lambda: contender(options.size))
        return
    size = SMALL if options.small else FULL
    best = rounds(__file__, ["sklearn", "ours_fit"], size, 2)
    # One round: the peer's search is minutes long, which evens out what disturbs it.
    best |= rounds(__file__, ["clip_benchmark", "ours_probe"], size, 1)
    result = {
        "accuracy_difference": abs(best["ours_fit"]["accuracy"] - best["sklearn"]["accuracy"]),
        "time_ratio_sklearn": best["sklearn"]["seconds"] / best["ours_fit"]["seconds"],
        "time_ratio_clip_benchmark": best["clip_benchmark"]["seconds"] / best["ours_probe"]["seconds"],
    }
    names = {
        "sklearn": f"scikit-learn, C = {size['penalty']:g}",
        "ours_fit": f"gaprun, C = {size['penalty']:g}",
        "clip_benchmark": "CLIP_benchmark, 20 trainings",
        "ours_probe": f"gaprun, {best['ours_probe']['path']} penalties + refit",
    }
    lines = [f"{size['train']:,} x {size['dim']} features, 10 classes, {size['test']:,} test rows"]
    lines += [f"{names[k]:<30}{best[k]['seconds']:9.2f} s{best[k]['accuracy']:8.2f} %" for k in names]
    report(lines, result, options.json)


if __name__ == "__main__":
    main()
