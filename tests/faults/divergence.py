"""A value that is not finite, at any step of a real training or in the inputs of an ensemble: the program ends there
and names it, and it is never saved and never averaged."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cli.options import run
from experiments.train import TrainOptions, main
from jaxnets import data
from jaxnets.recipes import FAMILIES, smoke
from jaxnets.runs import RunConfig, open_run, read_config
from jaxnets.store import checkpoint
from jaxnets.store.manifest import check_manifest, committed_folder, read_manifest, write_manifest
from jaxnets.store.weights import flatten_named
from jaxnets.training import fit, loop, step
from jaxnets.training.fit_state import to_items
from tests.faults.pipelines import OPTIONS, pipeline, start
from tests.faults.store import CONTEXT
from tests.faults.trial import Trial

TARGETS = ("loss", "gradient", "statistics", "predictions")
VALUES = (np.nan, np.inf, -np.inf)


def trainings(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """All families and targets in turn, at a random step. Each trial runs the real script in a new process."""
    preset, digits = smoke(), data.load("digits")
    rows = len(data.stratified_split(digits.y_train, fraction=preset.valid_fraction, seed=0)[0])
    for trial in range(trials):
        family, target = FAMILIES[trial % 5], TARGETS[trial % 4]
        training = preset.recipe(family).training
        steps = rows // training.batch_size
        at, value, leaf = int(rng.integers(training.epochs * steps)), float(rng.choice(VALUES)), int(rng.integers(99))
        out, stderr = folder / str(trial), folder / f"{trial}.txt"
        worker = CONTEXT.Process(target=train, args=(out, family, stderr, target, at, steps, value, leaf))
        worker.start()
        worker.join(300)
        failure = ended_well(stderr.read_text(), worker.exitcode, family, target, at, steps)
        failure = failure or saved_before(out / "members" / f".{family}-0.unfinished", at // steps, steps)
        yield Trial(True, f"{family}, {value} in the {target} of step {at}: {failure}" if failure else "")


def train(out: Path, family: str, stderr: Path, target: str, at: int, steps: int, value: float, leaf: int) -> None:
    os.environ["XDG_CACHE_HOME"] = str(out.parent / "cache")
    jax.config.update("jax_disable_most_optimizations", True)
    sys.argv = ["train.py", "--family", family, *OPTIONS, str(out)]
    patch = predicting(at // steps, value) if target == "predictions" else computing(target, at, value, leaf)
    with stderr.open("w") as file, redirect_stderr(file), redirect_stdout(None), patch:
        run(main, TrainOptions)


@contextmanager
def computing(target: str, at: int, value: float, leaf: int) -> Iterator[None]:
    """Within this context step `at` gets the value in a target, in the gradient of a parameter, or in a running
    statistic."""
    real_make, real_apply = loop.make_train_step, step.apply

    def make_train_step(*arguments: Any, **options: Any) -> step.Step:
        real = real_make(*arguments, **options)

        def update(state: step.TrainState, images: jax.Array, targets: jax.Array) -> Any:
            bad = jnp.where(state.step == at, jnp.float32(value), 0)

            def apply(graphdef: Any, params: Any, stats: Any, images: jax.Array, *, train: bool) -> Any:
                params = spoil_gradient(params, bad, leaf) if target == "gradient" else params
                logits, stats = real_apply(graphdef, params, stats, images, train=train)
                return logits, (add(stats, bad, leaf) if target == "statistics" else stats)

            with mock.patch.object(step, "apply", apply):
                return real.update(state, images, targets.at[0, 0].add(bad) if target == "loss" else targets)

        return step.Step(real.prepare, update)

    with mock.patch.object(loop, "make_train_step", make_train_step):
        yield


def add(tree: Any, bad: jax.Array, number: int) -> Any:
    """Return the tree with `bad` added to the first value of one of its leaves."""
    leaves, structure = jax.tree.flatten(tree)
    number %= len(leaves)
    leaves[number] = leaves[number].ravel().at[0].add(bad).reshape(leaves[number].shape)
    return jax.tree.unflatten(structure, leaves)


def spoil_gradient(params: Any, bad: jax.Array, number: int) -> Any:
    """Return the parameters unchanged, and add `bad` to their gradient."""

    @jax.custom_vjp
    def identity(params: Any, bad: jax.Array) -> Any:
        return params

    identity.defvjp(
        lambda params, bad: (params, bad), lambda bad, grads: (add(grads, bad, number), jnp.zeros_like(bad))
    )
    return identity(params, bad)


@contextmanager
def predicting(epoch: int, value: float) -> Iterator[None]:
    """Within this context a prediction of a validation image has the value after that epoch."""
    real, calls = fit.make_predict, []

    def make_predict(*arguments: Any, **options: Any) -> Any:
        predict = real(*arguments, **options)

        def predict_badly(*arguments: Any) -> np.ndarray:
            log_probs = predict(*arguments)
            log_probs[-1, 0] = value if len(calls) == epoch else log_probs[-1, 0]
            calls.append(len(log_probs))
            return log_probs

        return predict_badly

    with mock.patch.object(fit, "make_predict", make_predict):
        yield


def ended_well(stderr: str, code: int | None, family: str, target: str, at: int, steps: int) -> str:
    """Return what is wrong with how the script ended, if anything."""
    number = steps if target == "predictions" else at % steps + 1
    words = rf"error: {family}, seed 0: epoch {at // steps + 1}, step {number} of {steps}: loss \S+, "
    words += r"gradient_norm \S+, .*learning_rate \d\S+, rows \d+, .* Fix: .*\n"
    return "" if code == 3 and re.fullmatch(words, stderr) else f"exit {code}: {stderr}"


def saved_before(run: Path, epochs: int, steps: int) -> str:
    """Return what is wrong, if anything, with the earlier checkpoints: those of the last two epochs."""
    wanted = [epoch * steps for epoch in (epochs - 1, epochs) if epoch > 0]
    if checkpoint.saved_steps(run / "state") != wanted:
        return f"found {checkpoint.saved_steps(run / 'state')}, not {wanted}"
    items = arrays(read_config(run))
    for number in wanted:
        history = check_manifest(run / "state" / str(number))["history"]
        if not np.isfinite([row["valid_accuracy"] for row in history]).all():
            return f"the history of step {number} is not finite"
        if not is_finite(checkpoint.read(run / "state" / str(number), items)):
            return f"step {number} is not finite"
    return ""


def arrays(config: RunConfig) -> dict[str, Any]:
    """Return trees of the shapes that a checkpoint of this training has."""
    return to_items(loop.TrainLoop(config=config, num_rows=1000).init(0))


def is_finite(tree: Any) -> bool:
    return all(np.isfinite(leaf).all() for leaf in flatten_named(tree).values())


def ensembles(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """In turn, a prediction of a member or one of its parameters is not finite, in a folder with a valid manifest: the
    program that would average them fails and names the file."""
    process = start(pipeline(folder / "job"), folder / "cache")
    assert process.wait() == 0, process.communicate()[1]
    members = sorted((folder / "job" / "members").iterdir())
    for trial in range(trials):
        member, value = members[rng.integers(len(members))], float(rng.choice(VALUES))
        job = Path(shutil.copytree(folder / "job", folder / str(trial)))
        spoiled = (spoil_predictions, spoil_weights)[trial % 2](job, member.name, value, rng)
        command = ["ensemble", *OPTIONS, str(job)]
        if trial % 2:
            command = ["evaluate", "--data", "digits", "--runs", str(member), str(spoiled), "--out", str(job)]
        process = start([sys.executable, "-m", f"experiments.{command[0]}", *command[1:]], folder / "cache")
        _, stderr = process.communicate(timeout=300)
        failure = "" if process.returncode == (3, 2)[trial % 2] and named(stderr, spoiled) else stderr
        for name in ("submission.csv", "report.json"):
            if (job / name).read_bytes() != (folder / "job" / name).read_bytes():
                failure = failure or f"{name} was written"
        yield Trial(True, f"{value} in {spoiled}: exit {process.returncode}: {failure}" if failure else "")
        shutil.rmtree(job)


def named(stderr: str, path: Path) -> bool:
    return stderr.startswith(f"error: {path}") and "finite" in stderr and stderr.count("\n") == 1


def spoil_predictions(job: Path, name: str, value: float, rng: np.random.Generator) -> Path:
    path = job / "predictions" / name / f"{rng.choice(['valid', 'test'])}.npz"
    with np.load(path) as file:
        log_probs = file["log_probs"]
    log_probs.flat[rng.integers(log_probs.size)] = value
    np.savez(path, log_probs=log_probs)
    write_manifest(path.parent, read_manifest(path.parent)["made_from"])
    return path


def spoil_weights(job: Path, name: str, value: float, rng: np.random.Generator) -> Path:
    """Return a folder as `publish` makes it of that member, except for the value."""
    source, target = job / "members" / name, job / "published"
    trained = open_run(source)
    leaves = [*flatten_named({"params": trained.params, "stats": trained.stats}).items()]
    number = int(rng.integers(len(leaves)))
    leaf = leaves[number][1].copy()
    leaf.flat[rng.integers(leaf.size)] = value
    with committed_folder(target, {}) as draft:
        np.savez(draft / "weights.npz", **{**dict(leaves), leaves[number][0]: leaf})
        for file in ("config.json", "metrics.csv", "train_rows.npy"):
            shutil.copyfile(source / file, draft / file)
    return target
