"""Which rows are equal, by their content: equal rows must tie, and a matrix product does not promise that.

The last bit of a score depends on where its row and column fall in the product's blocks. Whoever compares a score with
that of an equal row therefore asks here, and never the product.
"""

from __future__ import annotations

import numpy as np

from gaprun.evaluation.embeddings import Array

_CHUNK = 8192


def equal_groups(rows: Array) -> Array:
    """int64 (N,): a number for each row of (N, D), the same exactly where two rows are equal, counted from 0 on.

    Rows are compared as float32 (0 and -0 are equal); memory is a few chunks of rows beside the result.
    """
    weights = np.random.default_rng(0).integers(0, 2**63, rows.shape[1], dtype=np.uint64) * 2 + 1
    digests = np.empty(len(rows), dtype=np.uint64)
    for start in range(0, len(rows), _CHUNK):
        part = _bits(rows[start : start + _CHUNK])
        digests[start : start + len(part)] = (part * weights).sum(1, dtype=np.uint64)
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    group = group.astype(np.int64).ravel()
    # Rows that share a digest are compared with the first that has it; a chance likeness gets a number of its own.
    alike = np.flatnonzero(first[group] != np.arange(len(rows)))
    for start in range(0, len(alike), _CHUNK):
        index = alike[start : start + _CHUNK]
        other = (_bits(rows[index]) != _bits(rows[first[group[index]]])).any(1)
        group[index[other]] = len(rows) + index[other]
    return group


def _bits(rows: Array) -> Array:
    """The bits of float32 rows as uint64 (n, D); adding 0 makes -0 to 0."""
    return (np.asarray(rows, dtype=np.float32) + np.float32(0)).view(np.uint32).astype(np.uint64)


def sizes_of(group: Array) -> Array:
    """int64 (N,): how many rows are equal to each row, itself included."""
    _, inverse, count = np.unique(group, return_inverse=True, return_counts=True)
    return count[inverse.ravel()].astype(np.int64)


def scores_by_content(rows: Array, columns: Array) -> Array:
    """float32 (N, K) products of rows (N, D) and columns (K, D): equal columns give equal bits in every row."""
    distinct, place = np.unique(np.asarray(columns, np.float32) + np.float32(0), axis=0, return_inverse=True)
    product = np.asarray(rows, dtype=np.float32) @ distinct.T
    found: Array = product[:, place.ravel()]
    return found
