"""The order of the training examples: a function of seed and epoch alone, so checkpoints need not store it."""

import numpy as np


def batch_order(num_rows: int, batch_size: int, *, seed: int, epoch: int) -> np.ndarray:
    """Return the rows of each step of one epoch, (S, B) int32 with S = num_rows // batch_size.

    The epochs divide one endless sequence of permutations into batches: rows left over at the end of a permutation come
    first in the next epoch. So every row is seen equally often, and no batch is short or padded.
    """
    size = num_rows // batch_size * batch_size
    start = epoch * size
    first, last = start // num_rows, (start + size - 1) // num_rows
    rows = np.concatenate([permutation(num_rows, seed=seed, index=index) for index in range(first, last + 1)])
    begin = start - first * num_rows
    return rows[begin : begin + size].reshape(-1, batch_size)


def permutation(num_rows: int, *, seed: int, index: int) -> np.ndarray:
    """Return permutation number `index` of the rows, (num_rows,) int32."""
    return np.random.default_rng([seed, index]).permutation(num_rows).astype(np.int32)
