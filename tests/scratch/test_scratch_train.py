import copy
import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxnets.data import load
from scratch.deform import DeformConfig
from scratch.losses import smooth_labels
from scratch.mlp import forward, init_params, loss_and_grads
from scratch.train import MLPConfig, accuracy, fit, init_state, learning_rates, minibatches, predict, prefetch

DEFORMATION = DeformConfig(rotation_degrees=10, zoom=0.1, shear_degrees=5, shift_pixels=0.7, elastic_pixels=0.3)
SETTINGS = MLPConfig(widths=(64, 32, 10), epochs=4, batch_size=32)
with_and_without_deformation = pytest.mark.parametrize("deformation", [None, DEFORMATION], ids=["plain", "deformed"])


@pytest.fixture(scope="module")
def digits():
    """x_train (N, 8, 8) and x_test float32 in [0, 1], y_train and y_test."""
    found = load("digits")
    scaled = lambda images: images[..., 0].astype(np.float32) / 255
    return scaled(found.x_train), found.y_train, scaled(found.x_test), found.y_test


@pytest.fixture(scope="module")
def few(digits):
    return digits[0][:150], digits[1][:150]


def last(epochs):
    *_, (state, _) = epochs
    return state


def assert_same_bits(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def differ(some, others):
    return any(np.any(a != b) for a, b in zip(jax.tree.leaves(some), jax.tree.leaves(others), strict=True))


@with_and_without_deformation
@pytest.mark.parametrize(("count", "sizes"), [(10, [4, 4, 2]), (8, [4, 4]), (3, [3])])
def test_an_epoch_visits_each_row_once(count, sizes, deformation):
    images = np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None], (count, 8, 8))
    no_deformation = DeformConfig() if deformation else None
    batches = minibatches(
        np.random.default_rng(0), images, np.eye(count), MLPConfig(batch_size=4, deformation=no_deformation)
    )
    xs, targets = zip(*batches, strict=True)
    assert [x.shape for x in xs] == [(size, 64) for size in sizes]
    seen = np.concatenate(xs)[:, 0]
    np.testing.assert_array_equal(np.concatenate(targets), np.eye(count)[seen.astype(int)])
    assert sorted(seen) == list(range(count))
    assert list(seen) != sorted(seen) or count == 3


def test_every_image_of_an_epoch_is_deformed_differently(random_images):
    images = np.repeat(random_images(1, 8, 8), 10, axis=0)
    settings = MLPConfig(batch_size=4, deformation=DEFORMATION)
    xs = np.concatenate([x for x, _ in minibatches(np.random.default_rng(0), images, np.eye(10), settings)])
    assert xs.shape == (10, 64)
    assert len(np.unique(np.round(xs, 3), axis=0)) == 10


def test_prefetching_keeps_all_items_in_order():
    assert list(prefetch(iter(range(1, 20)))) == list(range(1, 20))
    assert list(prefetch(iter([]))) == []
    assert list(itertools.islice(prefetch(itertools.count()), 3)) == [0, 1, 2]


def test_one_item_is_prefetched():
    made = []
    items = prefetch(made.append(i) or i for i in range(5))
    assert next(items) == 0
    items.close()
    assert made == [0, 1]


def test_an_error_in_the_thread_is_raised():
    def items():
        yield 1
        yield 2
        raise LookupError("no third")

    seen = []
    with pytest.raises(LookupError, match="no third"):
        seen.extend(prefetch(items()))
    prefetched = prefetch(items())
    assert [next(prefetched), next(prefetched)] == [1, 2]
    with pytest.raises(LookupError, match="no third"):
        next(prefetched)


@with_and_without_deformation
def test_a_training_depends_on_its_seed(few, deformation):
    settings = replace(SETTINGS, deformation=deformation, epochs=2)
    initial = lambda: init_state(settings, seed=1)
    losses = lambda seed: [loss for _, loss in fit(*few, settings, seed=seed, state=initial())]
    assert_same_bits(last(fit(*few, settings, seed=1)), last(fit(*few, settings, seed=1)))
    assert losses(1) == losses(1)
    assert losses(1) != losses(2)
    assert differ(initial().params, init_state(settings, seed=2).params)


@with_and_without_deformation
def test_a_resumed_training_is_bitwise_identical(few, deformation):
    settings = replace(SETTINGS, deformation=deformation, weight_decay=1e-3, label_smoothing=0.1)
    states = [copy.deepcopy(state) for state, _ in fit(*few, settings, seed=5)]
    assert [state.epoch for state in states] == [1, 2, 3, 4]
    saved = copy.deepcopy(states[1])
    resumed = [(copy.deepcopy(state), loss) for state, loss in fit(*few, settings, seed=5, state=saved)]
    assert_same_bits([state for state, _ in resumed], states[2:])
    assert list(fit(*few, settings, seed=5, state=states[3])) == []
    assert differ(states[2].params, states[3].params)


@with_and_without_deformation
def test_every_epoch_draws_new_random_numbers(few, deformation):
    # With learning rate 0, the mean loss over batches depends only on the smaller last batch and the deformations.
    settings = replace(SETTINGS, deformation=deformation, schedule="constant", learning_rate=0.0)
    losses = [loss for _, loss in fit(*few, settings, seed=0)]
    assert len(set(losses)) == len(losses) == 4


def test_the_loss_of_an_epoch_is_that_before_its_steps(few):
    settings = replace(SETTINGS, batch_size=150, epochs=1, label_smoothing=0.1)
    params, targets = init_state(settings, seed=0).params, smooth_labels(few[1], 10, smoothing=0.1)
    options = {"activation": "relu", "loss": "cross_entropy"}
    expected, grads = loss_and_grads(params, few[0].reshape(150, 64), targets, **options)
    ((state, loss),) = fit(*few, settings, seed=0)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    expected = [(w - 0.19 * dw, b - 0.19 * db) for (w, b), (dw, db) in zip(params, grads, strict=True)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state.params, expected)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"deformation": replace(DEFORMATION, shift_pixels=0.3, elastic_pixels=0.15), "epochs": 8},
        {"activation": "tanh", "nesterov": False},
        {"activation": "sigmoid", "loss": "quadratic", "schedule": "constant", "learning_rate": 3.0, "momentum": 0.0}
        | {"init_std": 0.2, "epochs": 10},
    ],
)
def test_digits_are_learned(digits, changed):
    x_train, y_train, x_test, y_test = digits
    settings = replace(SETTINGS, **changed)
    epochs = list(fit(x_train, y_train, settings, seed=0))
    losses = [loss for _, loss in epochs]
    assert losses[-1] < 0.5 * losses[0]
    assert accuracy(predict(init_state(settings, seed=0).params, x_test, settings), y_test) < 0.3
    assert accuracy(predict(epochs[-1][0].params, x_test, settings), y_test) > 0.8


def test_learning_rates_continue_over_the_epochs():
    constant = MLPConfig(epochs=3, learning_rate=0.2, schedule="constant")
    assert [learning_rates(constant, epoch, steps=4) for epoch in range(3)] == [[0.2] * 4] * 3
    cosine = replace(constant, schedule="cosine")
    found = np.concatenate([learning_rates(cosine, epoch, steps=4) for epoch in range(3)])
    np.testing.assert_allclose(found, 0.1 * (1 + np.cos(np.pi * np.arange(12) / 12)))


@pytest.mark.parametrize("count", [1, 999, 1000, 2003])
def test_predictions_do_not_depend_on_batches(count, random_images):
    params, images = init_params(np.random.default_rng(0), SETTINGS.widths), random_images(count, 8, 8)
    log_probs = predict(params, images, SETTINGS)
    logits, _ = forward(params, images.reshape(count, 64), activation="relu")
    assert log_probs.dtype == np.float32
    np.testing.assert_allclose(log_probs, jax.nn.log_softmax(logits), atol=1e-5)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(predict(params, images.reshape(count, 64), SETTINGS), log_probs)


@pytest.mark.parametrize(("std", "expected"), [(None, [(2 / 800) ** 0.5, 0.1, 0.1]), (0.5, [0.5] * 3)])
def test_initial_weights_are_normal_and_biases_zero(std, expected):
    params = init_params(np.random.default_rng(0), (800, 200, 200, 10), std=std)
    assert [w.shape for w, _ in params] == [(800, 200), (200, 200), (200, 10)]
    for (w, b), size in zip(params, expected, strict=True):
        assert w.dtype == b.dtype == np.float32
        np.testing.assert_allclose([w.std(), w.mean()], [size, 0], rtol=0.05, atol=0.05 * size)
        np.testing.assert_allclose(np.quantile(w, [0.16, 0.84]), [-size, size], rtol=0.08)
        np.testing.assert_array_equal(b, np.zeros(w.shape[1]))


def test_targets_are_smoothed():
    targets = smooth_labels(np.array([2, 0]), 4, smoothing=0.1)
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets, [[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]], rtol=1e-6)
    np.testing.assert_array_equal(smooth_labels(np.array([2, 0]), 4), np.eye(4)[[2, 0]])
