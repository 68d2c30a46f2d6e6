"""Which rows each step sees: a function of seed and epoch alone, so that nothing about it needs saving."""

import numpy as np


def batch_order(num_rows: int, batch_size: int, *, seed: int, epoch: int) -> np.ndarray:
    """-> (S, B) int32 with S = num_rows // batch_size: rows for the steps of one epoch.

    The epochs cut one endless sequence of permutations into batches: rows that fill no whole batch at the end of a
    permutation come first in the next epoch, so every row is seen equally often and no batch is short or padded.
    """
    size = num_rows // batch_size * batch_size
    start = epoch * size
    first, last = start // num_rows, (start + size - 1) // num_rows
    rows = np.concatenate([permutation(num_rows, seed=seed, index=index) for index in range(first, last + 1)])
    begin = start - first * num_rows
    return rows[begin : begin + size].reshape(-1, batch_size)


def permutation(num_rows: int, *, seed: int, index: int) -> np.ndarray:
    return np.random.default_rng([seed, index]).permutation(num_rows).astype(np.int32)
