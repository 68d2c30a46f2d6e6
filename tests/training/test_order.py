import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnets.training.order import batch_order

SIZES = st.integers(1, 40).flatmap(lambda rows: st.tuples(st.just(rows), st.integers(1, rows)))


@given(SIZES, st.integers(0, 2**31), st.integers(1, 6))
def test_epochs_are_permutations_cut_into_whole_batches(sizes, seed, epochs):
    num_rows, batch_size = sizes
    orders = [batch_order(num_rows, batch_size, seed=seed, epoch=epoch) for epoch in range(epochs)]
    assert {order.shape for order in orders} == {(num_rows // batch_size, batch_size)}
    assert {order.dtype for order in orders} == {np.dtype(np.int32)}
    seen = np.concatenate(orders).ravel()
    for start in range(0, len(seen), num_rows):
        part = np.sort(seen[start : start + num_rows])
        assert (part == np.arange(num_rows)).all() if len(part) == num_rows else (np.diff(part) > 0).all()


def test_rows_left_over_come_first():
    first, second = (batch_order(10, 4, seed=0, epoch=epoch).ravel() for epoch in (0, 1))
    assert set(second[:2]) == set(range(10)) - set(first)


def test_seed_and_epoch_alone_decide():
    once = [batch_order(50, 8, seed=1, epoch=epoch) for epoch in (0, 1, 5)]
    again = [batch_order(50, 8, seed=1, epoch=epoch) for epoch in (5, 1, 0)]
    np.testing.assert_array_equal(once, again[::-1])


@pytest.mark.parametrize("other", [{"seed": 1, "epoch": 0}, {"seed": 0, "epoch": 1}])
def test_other_seeds_and_epochs_differ(other):
    assert (batch_order(50, 50, seed=0, epoch=0) != batch_order(50, 50, **other)).any()
