import numpy as np
import pytest

from jaxnets.config import AugmentConfig, ModelRecipe, TrainConfig
from jaxnets.runs import RunConfig
from jaxnets.training.step import Examples

SIZES = {"deep_cnn": {"depth": 3}, "wide_cnn": {"width": 4}}


@pytest.fixture(scope="session")
def tiny_config():
    """tiny_config(family, precision=..., **training): a model of one block for images of 8 x 8."""

    def make(family="wide_cnn", *, precision="float32", **training):
        training = {"epochs": 3, "batch_size": 8, "augmentation": AugmentConfig(mixup_alpha=0.4)} | training
        sizes = {"width": 8, "depth": 1} | SIZES.get(family, {})
        return RunConfig(
            recipe=ModelRecipe(family=family, sizes=sizes, training=TrainConfig(**training)),
            seed=3,
            precision=precision,
            image_shape=(8, 8, 1),
            num_classes=10,
            data="random",
            data_sha256="",
        )

    return make


@pytest.fixture(scope="session")
def draw_examples():
    """draw_examples(N): random images, soft targets, and weights, one of them zero."""

    def draw(count):
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (count, 8, 8, 1), np.uint8)
        targets = rng.dirichlet(np.full(10, 0.2), count).astype(np.float32)
        return Examples(images, targets, np.append(0, rng.uniform(0.5, 1.5, count - 1)).astype(np.float32))

    return draw
