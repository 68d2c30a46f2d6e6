"""A training that is stopped after any of its steps and resumed gives bitwise identical parameters, statistics,
optimizer state, EMA and history."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from jaxnets.config import AugmentConfig, ModelRecipe, TrainConfig
from jaxnets.runs import RunConfig
from jaxnets.store import checkpoint
from jaxnets.training import fit, loop, parallel
from jaxnets.training.fit_state import to_items
from jaxnets.training.step import Examples
from tests.faults.trial import Trial

EPOCHS, STEPS, BATCH = 4, 10, 8
TIMES = {"images_per_second", "seconds", "compile_seconds"}
Compile = Callable[..., parallel.RunEpoch]
FORMS: tuple[Compile, ...] = (parallel.compile_loop, parallel.compile_steps)
"""An accelerator's form of an epoch, which here stops after any step, and a CPU's, which runs one step more."""


def config(*, epochs: int) -> RunConfig:
    """A minimal model with augmentation, MixUp and running statistics, for images of 8 x 8."""
    training = TrainConfig(epochs=epochs, batch_size=BATCH, augmentation=AugmentConfig(mixup_alpha=0.4))
    recipe = ModelRecipe(family="wide_cnn", sizes={"width": 4, "depth": 1}, training=training)
    shape = {"image_shape": (8, 8, 1), "num_classes": 10}
    return RunConfig(recipe=recipe, seed=3, precision="float32", data="random", data_sha256="", **shape)


def examples(steps: int) -> tuple[Examples, fit.Validation]:
    """Random examples for epochs of that many steps, and a few more, which are left over for the next epoch."""
    rng, rows = np.random.default_rng(0), steps * BATCH + BATCH // 2
    images = rng.integers(0, 256, (rows, 8, 8, 1), np.uint8)
    targets = rng.dirichlet(np.full(10, 0.2), rows).astype(np.float32)
    weights = rng.uniform(0.5, 1.5, rows).astype(np.float32)
    return Examples(images, targets, weights), fit.Validation(images[:6], targets[:6].argmax(axis=1))


def train(folder: Path, stop: int | None = None, *, epochs: int = EPOCHS, steps: int = STEPS) -> bool:
    """Train to the end, or request a stop at step `stop`."""
    seen = [0]
    on_progress = lambda progress: seen.append(progress.finished * steps + progress.step)
    should_stop = lambda: stop is not None and seen[-1] >= stop
    return fit.fit(folder, config(epochs=epochs), *examples(steps), jax.devices()[:1], on_progress, should_stop)


def saved(folder: Path) -> tuple[int, dict[str, bytes], list[dict[str, float]]]:
    """Return the step of the last checkpoint, its arrays as bytes, and the history without times."""
    items = to_items(loop.TrainLoop(config=config(epochs=EPOCHS), num_rows=len(examples(STEPS)[0].images)).init(0))
    last = checkpoint.restore(folder / "state", items)
    assert last is not None
    assert not last.metadata["part"]
    trees = checkpoint.flatten_named(last.items)
    history = [{name: value for name, value in row.items() if name not in TIMES} for row in last.metadata["history"]]
    step = checkpoint.saved_steps(folder / "state")[-1]
    return step, {name: leaf.tobytes() for name, leaf in trees.items()}, history


def every_step(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """Stop at steps from the first to the last, half of the trials in each form."""
    stops = np.linspace(1, EPOCHS * STEPS, trials // 2).round().astype(int)
    for form in FORMS:
        with compiled_once(form):
            train(folder / form.__name__)
            desired = saved(folder / form.__name__)
            for stop in map(int, stops):
                failure = stopped_at(folder / f"{form.__name__}-{stop}", stop, form, desired)
                yield Trial(True, f"{form.__name__}, {stop}: {failure}" if failure else "")


@contextmanager
def compiled_once(form: Compile) -> Iterator[None]:
    """Within this context all trainings have that form and share its compiled programs, as tracing takes long."""

    def once(make: Callable[..., Any]) -> Callable[..., Any]:
        results: list[Any] = []

        def make_once(*arguments: Any, **options: Any) -> Any:
            if not results:
                results.append(make(*arguments, **options))
            return results[0]

        return make_once

    compile_epoch = lambda *arguments, total_steps: form(*arguments)
    with (
        mock.patch.object(parallel, "STEPS_PER_CALL", 1),
        mock.patch.object(loop, "compile_epoch", once(compile_epoch)),
        mock.patch.object(loop, "init_arrays", once(loop.init_arrays)),
        mock.patch.object(fit, "make_predict", once(fit.make_predict)),
    ):
        yield


def stopped_at(folder: Path, stop: int, form: Any, desired: Any) -> str:
    """Return what went wrong, if anything. On a CPU the callback of a step is called while the next one runs, so the
    stop is requested a step earlier, but not before the first step of the epoch."""
    one_more = form is parallel.compile_steps and stop % STEPS != 0
    requested = max(stop - 1, (stop - 1) // STEPS * STEPS + 1) if one_more else stop
    train(folder, requested)
    last = requested + 1 if one_more else requested
    if checkpoint.saved_steps(folder / "state")[-1] != last:
        return f"stopped at {checkpoint.saved_steps(folder / 'state')}, not {last}"
    if not train(folder):
        return "the resumed training did not finish"
    return "" if saved(folder) == desired else "the results differ"
