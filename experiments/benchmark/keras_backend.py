"""Keras' side of the benchmark, on its JAX backend, as the notebooks write it: fit and predict, and pictures bent by
SciPy on the CPU while they are fed. It keeps no moving average: with use_ema its JAX trainer donates a buffer twice."""

from collections.abc import Iterator

import keras
import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from jaxnets.config import AugmentConfig

from .case import Case, Side, Weights
from .keras_models import build as build_model
from .keras_models import load


def build(case: Case, weights: Weights) -> Side:
    keras.utils.set_random_seed(0)
    training = case.training
    model = build_model(case.family, case.images.shape[1:], **case.sizes)
    load(model, weights.params, weights.stats)
    weights.check(np.asarray(model(weights.probe, training=True)), "Keras")
    if case.precision != "float32":
        keras.mixed_precision.set_global_policy(f"mixed_{case.precision}")
        model = build_model(case.family, case.images.shape[1:], **case.sizes)
    load(model, weights.params, weights.stats)
    optimizer = keras.optimizers.AdamW(
        training.learning_rate,
        weight_decay=training.weight_decay,
        global_clipnorm=training.clip_norm,
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=training.label_smoothing)
    model.compile(optimizer, loss)
    images, targets = case.images.astype(np.float32) / 255, np.eye(10, dtype=np.float32)[case.labels]
    rows = slice(case.steps * training.batch_size)
    rng = np.random.default_rng(0)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for chosen in rng.permutation(len(images))[rows].reshape(case.steps, -1):
            yield np.stack([bend(image, training.augmentation, rng) for image in images[chosen]]), targets[chosen]

    works = {
        "step": lambda: model.fit(images[rows], targets[rows], batch_size=training.batch_size, verbose=0),
        "loop": lambda: model.fit(batches(), steps_per_epoch=case.steps, shuffle=False, verbose=0),
        "infer": lambda: model.predict(images[: case.answered], batch_size=128, verbose=0),
    }
    return Side(works, lambda: None, {"parameters": sum(int(np.prod(w.shape)) for w in model.trainable_weights)})


def bend(image: np.ndarray, strength: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """image (H, W, 1), H = W: rotation, zoom, shear, shift and Simard's elastic field, on one bilinear read."""
    angle, slant = np.deg2rad([strength.rotation_degrees, strength.shear_degrees]) * rng.uniform(-1, 1, 2)
    zoom = np.exp(rng.uniform(-1, 1) * np.log1p(strength.zoom))
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle) + np.tan(slant), np.cos(angle)]]) / zoom
    field = np.stack([gaussian_filter(noise, 5) for noise in rng.standard_normal((2, *image.shape[:2]))])
    field *= strength.elastic_pixels / max(float(field.std()), 1e-9)
    shift = rng.uniform(-1, 1, (2, 1, 1)) * strength.shift_pixels
    middle = (len(image) - 1) / 2
    places = np.indices(image.shape[:2]) - middle
    source = np.tensordot(matrix, places, 1) + middle + shift + field
    return map_coordinates(image[..., 0], source, order=1)[..., None].astype(np.float32)
