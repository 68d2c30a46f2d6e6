"""A training that is stopped after any of its steps, and gone on with from there, ends in the same bits: parameters,
statistics, the optimiser's state, the averages, the best network and the history."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from jaxnets.config import Augmentation, Recipe, Training
from jaxnets.runs import RunConfig
from jaxnets.store import checkpoint
from jaxnets.training import fit, loop, parallel
from jaxnets.training.step import Examples
from tests.faults.trial import Trial

EPOCHS, STEPS, BATCH = 4, 10, 8
TIMES = {"images_per_second", "seconds", "compile_seconds"}
FORMS: tuple[Callable[..., parallel.Epoch], ...] = (parallel.compile_loop, parallel.compile_steps)
"""An accelerator's, which can be stopped after any step here, and a CPU's, which has the next step running by then."""


def config(*, epochs: int) -> RunConfig:
    """The tiniest network with augmentation, MixUp and running statistics, on images of 8 x 8."""
    training = Training(epochs=epochs, batch_size=BATCH, augmentation=Augmentation(mixup_alpha=0.4))
    recipe = Recipe(family="wide_cnn", sizes={"width": 4, "depth": 1}, training=training)
    shape = {"image_shape": (8, 8, 1), "num_classes": 10}
    return RunConfig(recipe=recipe, seed=3, precision="float32", data="random", data_sha256="", **shape)


def examples(steps: int) -> tuple[Examples, fit.Validation]:
    """Of epochs of so many steps; some rows are left over for the next one."""
    rng, rows = np.random.default_rng(0), steps * BATCH + BATCH // 2
    images = rng.integers(0, 256, (rows, 8, 8, 1), np.uint8)
    targets = rng.dirichlet(np.full(10, 0.2), rows).astype(np.float32)
    weights = rng.uniform(0.5, 1.5, rows).astype(np.float32)
    return Examples(images, targets, weights), fit.Validation(images[:6], targets[:6].argmax(axis=1))


def train(folder: Path, stop: int | None = None, *, epochs: int = EPOCHS, steps: int = STEPS) -> bool:
    """Until the end, or until the first step that can be the last from `stop` on."""
    seen = [0]
    note = lambda progress: seen.append(progress.finished * steps + progress.step)
    stopping = lambda: stop is not None and seen[-1] >= stop
    return fit.fit(folder, config(epochs=epochs), *examples(steps), jax.devices()[:1], note, stopping)


def end(folder: Path) -> tuple[list[int], dict[str, bytes], list[dict[str, float]]]:
    """-> the newest step and the best, all bytes of that state and of that network, the history but for its times."""
    state = loop.make_train_loop(config(epochs=EPOCHS), len(examples(STEPS)[0].images)).start(0)
    average = {"average": state.average}
    last = checkpoint.restore(folder / "state", average | {"rest": state._replace(average={})})
    best = checkpoint.restore(folder / "best", average)
    assert last is not None
    assert best is not None
    assert not last.facts["part"]
    trees = checkpoint.flatten_named({"last": last.items, "best": best.items})
    kept = [{name: value for name, value in row.items() if name not in TIMES} for row in last.facts["history"]]
    found = checkpoint.steps(folder / "state")[-1:] + checkpoint.steps(folder / "best")
    return found, {name: leaf.tobytes() for name, leaf in trees.items()}, kept


def every_step(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """Both forms in turn; as many stops as there are trials for, from the first step to the last."""
    stops = np.linspace(1, EPOCHS * STEPS, trials // 2).round().astype(int)
    for form in FORMS:
        with compiled_once(form):
            train(folder / form.__name__)
            desired = end(folder / form.__name__)
            for stop in map(int, stops):
                failure = stopped_at(folder / f"{form.__name__}-{stop}", stop, form, desired)
                yield Trial(True, f"{form.__name__}, {stop}: {failure}" if failure else "")


@contextmanager
def compiled_once(form: Callable[..., parallel.Epoch]) -> Iterator[None]:
    """Within, all trainings are of that form, and share its programs: what takes long is tracing them."""

    def once(make: Callable[..., Any]) -> Callable[..., Any]:
        made: list[Any] = []

        def give(*arguments: Any, **options: Any) -> Any:
            made.extend([] if made else [make(*arguments, **options)])
            return made[0]

        return give

    compile_epoch = lambda *arguments, steps: form(*arguments)
    with (
        mock.patch.object(parallel, "PIECE", 1),
        mock.patch.object(loop, "compile_epoch", once(compile_epoch)),
        mock.patch.object(loop, "init_arrays", once(loop.init_arrays)),
        mock.patch.object(fit, "make_predict", once(fit.make_predict)),
    ):
        yield


def stopped_at(folder: Path, stop: int, form: Any, desired: Any) -> str:
    """A CPU's first step of an epoch is not told of before the second one is running."""
    early = form is parallel.compile_steps and stop % STEPS != 0
    told = max(stop - 1, (stop - 1) // STEPS * STEPS + 1) if early else stop
    train(folder, told)
    place = told + 1 if early else told
    if checkpoint.steps(folder / "state")[-1] != place:
        return f"stopped at {checkpoint.steps(folder / 'state')}, not {place}"
    if not train(folder):
        return "it did not come to its end"
    return "" if end(folder) == desired else "other bits"
