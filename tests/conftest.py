import signal
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxnets.data import load
from jaxnets.normalise import normalise

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
# Queued steps with collectives on several CPU devices can lock up; no environment variable sets this one.
jax.config.update("jax_cpu_enable_async_dispatch", False)
jax.config.update("jax_numpy_rank_promotion", "raise")


def forbid_pickles(event, arguments):
    """Forbid unpickling, which can run code, except of messages between processes."""
    if event == "os.system" or (event == "pickle.find_class" and not is_between_processes()):
        raise PermissionError(f"{event} {arguments}")


def is_between_processes():
    frame = sys._getframe()
    while frame and Path(frame.f_code.co_filename).parent.name != "multiprocessing":
        frame = frame.f_back
    return frame is not None


sys.addaudithook(forbid_pickles)

# A shell's background job ignores Ctrl-C, and nohup SIGHUP; so would the programs that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_configure(config):
    # In pytest's own folder, not a shared one: what lies there is run.
    if hasattr(config, "cache"):
        jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="module")
def quick_compilation():
    """Tiny arrays take longer to compile for than to compute: half the time without most optimisations."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def strict_dtypes():
    """Arrays of different dtypes do not mix; a fixture, as optax's cosine schedule and Flax's batch norm mix them."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def random_images():
    """random_images(B, H, W, C): float32 in [0, 1], from random bytes."""

    def draw(*shape):
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8).astype(np.float32) / 255

    return draw


@pytest.fixture(scope="session")
def centred():
    """Images (30, 28, 28) uint8 made as MNIST's are, of scikit-learn's digits: three of each, and their labels."""
    digits = load("digits")
    rows = np.concatenate([np.flatnonzero(digits.y_test == label)[:3] for label in range(10)])
    images = [normalise(np.kron(image > 100, np.ones((4, 4)))) for image in digits.x_test[rows, ..., 0]]
    return np.stack(images), digits.y_test[rows]
