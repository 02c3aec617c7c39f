"""Linear probe: multinomial logistic regression fitted to convergence, its penalty chosen on a validation
part.

The objective is scikit-learn's, `C sum_i loss_i + ||W||^2 / 2` with a free intercept, in float32 with float64
sums, minimised by L-BFGS. What makes it fast is a change of variables: in the eigenbasis of the features'
covariance, scaled by the curvature the loss has there, the problem is close to round, and that one
eigendecomposition serves every penalty of the path. On a GPU all that is as large as the features stays there, and
L-BFGS on the CPU. Features are used as they are: unit embeddings, neither
centred nor standardised, so C means what it means in scikit-learn on the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Array, chance
from gaprun.evaluation.equal import scores_by_content

PENALTIES: tuple[float, ...] = tuple(float(10.0**p) for p in range(-2, 7))
"""The path, C in scikit-learn's sense, strong to weak; wide because unit rows need large C when N is
small."""

TOLERANCE = 1e-5
"""Largest gradient entry of the mean loss, in the scaled variables, at which a fit has converged."""

_BLOCK = 8192


@dataclass(frozen=True)
class Logistic:
    """A fitted classifier: scores = rows @ weight + bias; weight (D, K), bias (K,), classes (K,) sorted
    labels."""

    weight: Array
    bias: Array
    classes: Array

    def correct(self, rows: Array, labels: Array) -> Array:
        """bool (N,): the label's score is above every other class's. A tie is not a hit, a label unseen in
        training never is."""
        table = scores_by_content(rows, self.weight.T) + self.bias.astype(np.float32)
        column = np.searchsorted(self.classes, labels)
        known = self.classes[np.minimum(column, len(self.classes) - 1)] == labels
        own = np.where(known, column, 0)
        line = np.arange(len(labels))
        value = table[line, own].copy()
        table[line, own] = -np.inf
        return known & (value > table.max(1))


@dataclass(frozen=True)
class ProbeResult:
    """probe_top1 and the share of the largest class (percent of the test rows), the chosen C, the path as (C,
    validation accuracy), hits bool (N,)."""

    top1: float
    penalty: float
    path: list[tuple[float, float]]
    correct: Array
    model: Logistic
    chance: float

    @property
    def metrics(self) -> dict[str, float]:
        return {"probe_top1": self.top1, "probe_chance": self.chance, "probe_penalty": self.penalty}


class _Problem:
    """One training set: features, targets and the basis in which every penalty's problem is close to
    round."""

    def __init__(self, rows: Array, labels: Array, device: torch.device | str = "cpu") -> None:
        self.classes, target = np.unique(labels, return_inverse=True)
        if len(self.classes) < 2:
            raise UserError(
                f"a probe needs at least two classes, the training labels hold {len(self.classes)}"
            )
        if not np.isfinite(rows).all():
            raise UserError("probe features are not finite: the model is broken")
        self.rows = torch.from_numpy(np.require(rows, np.float32, ["C", "W"])).to(device)
        self.target = torch.from_numpy(target.astype(np.int64)).to(device)
        self.line = torch.arange(_BLOCK, device=device)
        self.mean = self.rows.mean(0)
        # A few thousand rows describe the covariance well enough for a preconditioner.
        self.stride = max(1, len(rows) // 8192)
        part = self.rows[:: self.stride] - self.mean
        values, basis = torch.linalg.eigh((part.T @ part).double() / len(part))
        self.spectrum, self.basis = values.clamp_min(0.0), basis

    def minimise(self, penalty: float, start: Logistic | None, tolerance: float, steps: int) -> Logistic:
        """Fit at C = `penalty`, from `start` (zeros where None)."""
        from scipy.optimize import minimize

        n, dim, k = len(self.rows), self.rows.shape[1], len(self.classes)
        # scikit-learn fits two classes with one weight column w; as two columns -w/2, w/2 it has half the
        # norm.
        ridge = (2.0 if k == 2 else 1.0) / (penalty * n)
        weight = self.rows.new_zeros(dim, k, dtype=torch.float64)
        bias = self.rows.new_zeros(k, dtype=torch.float64)
        if start is not None:
            weight, bias = (torch.from_numpy(part).to(weight) for part in (start.weight, start.bias))
        # Softmax curvature, p (1 - p), as it stands at the starting point; 1/K (1 - 1/K) at zero.
        share = torch.addmm(bias.float(), self.rows[:: self.stride], weight.float()).softmax(1)
        curvature = max(1e-6, float((share * (1 - share)).mean()))
        scale = (self.spectrum * curvature + ridge).rsqrt()
        bias_scale = curvature**-0.5
        to_weight = self.basis * scale  # (D, D): weight = to_weight @ v

        def unpack(flat: Array) -> tuple[torch.Tensor, torch.Tensor]:
            v = torch.from_numpy(flat).to(weight.device).view(dim + 1, k)
            w = to_weight @ v[:dim]
            return w, v[dim] * bias_scale - self.mean.double() @ w

        def value_and_gradient(flat: Array) -> tuple[float, Array]:
            w, b = unpack(flat)
            loss, by_weight, by_bias = self._loss(w, b)
            value = float(loss + 0.5 * ridge * (w * w).sum())
            # The bias carries -mean @ w, so the weight's gradient is the centred one.
            by_weight = by_weight + ridge * w - self.mean.double()[:, None] * by_bias
            gradient = torch.cat([to_weight.T @ by_weight, (by_bias * bias_scale)[None]])
            return value, gradient.cpu().numpy().ravel()

        v = (self.basis.T @ weight) / scale[:, None]
        v_bias = (bias + self.mean.double() @ weight) / bias_scale
        options = {"maxiter": steps, "maxcor": 20, "gtol": tolerance, "ftol": 1e-9, "maxls": 30}
        flat = torch.cat([v, v_bias[None]]).cpu().numpy().ravel()
        result = minimize(value_and_gradient, flat, jac=True, method="L-BFGS-B", options=options)
        w, b = unpack(result.x)
        return Logistic(w.cpu().numpy(), b.cpu().numpy(), self.classes)

    def _loss(
        self, weight: torch.Tensor, bias: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean cross-entropy (0-d) and its gradients, float64, on the rows' device. Rows pass in blocks, so that
        both products of a block find it in the cache, and scores lie class by class, for which the products are
        fastest."""
        w, b = weight.T.float().contiguous(), bias.float()[:, None]
        loss, by_weight, by_bias = bias.new_zeros(()), torch.zeros_like(weight.T), torch.zeros_like(bias)
        for rows, target in zip(self.rows.split(_BLOCK), self.target.split(_BLOCK), strict=True):
            log_share = (w @ rows.T).add_(b).log_softmax(0)
            loss -= log_share.gather(0, target[None]).sum(dtype=torch.float64)
            residual = log_share.exp_()
            residual[target, self.line[: len(target)]] -= 1.0
            by_weight += residual @ rows
            by_bias += residual.sum(1, dtype=torch.float64)
        n = len(self.rows)
        return loss / n, by_weight.T / n, by_bias / n


def fit_logistic(
    rows: Array,
    labels: Array,
    penalty: float,
    *,
    start: Logistic | None = None,
    tolerance: float = TOLERANCE,
    steps: int = 1000,
    device: torch.device | str = "cpu",
) -> Logistic:
    """Multinomial logistic regression of labels (N,) on rows (N, D) at scikit-learn's C = `penalty`."""
    return _Problem(rows, labels, device).minimise(penalty, start, tolerance, steps)


def fit_path(
    rows: Array,
    labels: Array,
    penalties: Sequence[float] = PENALTIES,
    *,
    tolerance: float = TOLERANCE,
    device: torch.device | str = "cpu",
) -> list[Logistic]:
    """One classifier a penalty, each started from the one before; give penalties from strong (small C) to
    weak."""
    problem = _Problem(rows, labels, device)
    models: list[Logistic] = []
    for penalty in penalties:
        models.append(problem.minimise(penalty, models[-1] if models else None, tolerance, 1000))
    return models


def few_shot(labels: Array, shots: int, seed: int) -> Array:
    """Sorted index of `shots` random rows of each class. UserError naming a class that has fewer."""
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < shots:
            raise UserError(
                f"few-shot probe: class {label} has {len(members)} images, {shots} were asked for"
            )
        chosen.append(generator.choice(members, shots, replace=False))
    return np.sort(np.concatenate(chosen))


def validation_split(labels: Array, share: float, seed: int) -> tuple[Array, Array]:
    """(train index, validation index), `share` of each class in validation; classes of one row stay in
    training."""
    generator = np.random.default_rng(seed)
    held_out = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        count = min(len(members) - 1, max(1, round(share * len(members))))
        held_out.append(members[:count])
    valid = np.sort(np.concatenate(held_out))
    train = np.setdiff1d(np.arange(len(labels)), valid)
    return train, valid


def linear_probe(
    train_rows: Array,
    train_labels: Array,
    test_rows: Array,
    test_labels: Array,
    *,
    penalties: Sequence[float] = PENALTIES,
    shots: int | None = None,
    validation_share: float = 0.2,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> ProbeResult:
    """Fit on the training split, choose C on a stratified part of it, refit on all of it, test once.

    rows: (N, D) features; labels: (N,) integers, rows labelled -1 are left out. shots: that many training
    rows a class, drawn by seed; the validation part comes out of them, never from elsewhere, and with one
    shot a class, where nothing can be held out, the middle of `penalties` is used. Equal validation
    accuracy goes to the stronger penalty. device: where the fits run; hits are counted on the CPU. Raises
    UserError for fewer than two classes, too few shots, no test labels.
    """
    train_rows, train_labels = _labelled(train_rows, train_labels, "training")
    test_rows, test_labels = _labelled(test_rows, test_labels, "test")
    if shots is not None:
        index = few_shot(train_labels, shots, seed)
        train_rows, train_labels = train_rows[index], train_labels[index]
    penalties = sorted(penalties)
    train, valid = validation_split(train_labels, validation_share, seed)
    path: list[tuple[float, float]] = []
    start: Logistic | None = None
    penalty = penalties[len(penalties) // 2]
    if len(valid) and len(penalties) > 1:
        models = fit_path(train_rows[train], train_labels[train], penalties, device=device)
        hits = [100.0 * float(m.correct(train_rows[valid], train_labels[valid]).mean()) for m in models]
        path = list(zip(penalties, hits, strict=True))
        best = int(np.argmax(hits))
        penalty, start = penalties[best], models[best]
    model = fit_logistic(train_rows, train_labels, penalty, start=start, device=device)
    correct = model.correct(test_rows, test_labels)
    return ProbeResult(100.0 * float(correct.mean()), penalty, path, correct, model, chance(test_labels))


def _labelled(rows: Array, labels: Array, what: str) -> tuple[Array, Array]:
    if len(rows) != len(labels):
        raise UserError(f"{what} split: {len(rows)} feature rows but {len(labels)} labels")
    known = labels >= 0
    if not known.any():
        raise UserError(f"the {what} split has no class labels: a probe needs a data set with classes")
    return (rows, labels) if known.all() else (rows[known], labels[known])
