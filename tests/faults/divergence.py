"""A number that is not finite, at any step of a real training, or in what an ensemble is made of: it ends there, is
named, and never saved, never the best, never averaged."""

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
from jaxnets.store.manifest import check, read_seal, seal, sealed_folder
from jaxnets.store.weights import flatten_named
from jaxnets.training import fit, loop, step
from tests.faults.pipelines import OPTIONS, pipeline, start
from tests.faults.store import CONTEXT
from tests.faults.trial import Trial

PLACES = ("loss", "gradient", "statistics", "answers")
VALUES = (np.nan, np.inf, -np.inf)


def trainings(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """All families and places in turn, at any step. The real script runs, in a process of its own."""
    preset, digits = smoke(), data.load("digits")
    rows = len(data.stratified_split(digits.y_train, fraction=preset.valid_fraction, seed=0)[0])
    for trial in range(trials):
        family, place = FAMILIES[trial % 5], PLACES[trial % 4]
        training = preset.recipe(family).training
        steps = rows // training.batch_size
        at, value, leaf = int(rng.integers(training.epochs * steps)), float(rng.choice(VALUES)), int(rng.integers(99))
        out, told = folder / str(trial), folder / f"{trial}.txt"
        worker = CONTEXT.Process(target=train, args=(out, family, told, place, at, steps, value, leaf))
        worker.start()
        worker.join(300)
        failure = ended_well(told.read_text(), worker.exitcode, family, place, at, steps)
        failure = failure or what_stays(out / "members" / f".{family}-0.unfinished", at // steps, steps)
        yield Trial(True, f"{family}, {value} in the {place} of step {at}: {failure}" if failure else "")


def train(out: Path, family: str, told: Path, place: str, at: int, steps: int, value: float, leaf: int) -> None:
    os.environ["XDG_CACHE_HOME"] = str(out.parent / "cache")
    jax.config.update("jax_disable_most_optimizations", True)
    sys.argv = ["train.py", "--family", family, *OPTIONS, str(out)]
    patch = answering(at // steps, value) if place == "answers" else computing(place, at, value, leaf)
    with told.open("w") as file, redirect_stderr(file), redirect_stdout(None), patch:
        run(main, TrainOptions)


@contextmanager
def computing(place: str, at: int, value: float, leaf: int) -> Iterator[None]:
    """Within, step `at` of what is compiled meets the value: in a target, in the gradient of one of the parameters, or
    in one of the running statistics."""
    real_make, real_apply = loop.make_train_step, step.apply

    def make_train_step(*arguments: Any, **options: Any) -> step.Step:
        made = real_make(*arguments, **options)

        def update(state: step.TrainState, images: jax.Array, targets: jax.Array) -> Any:
            bad = jnp.where(state.step == at, jnp.float32(value), 0)

            def apply(graphdef: Any, params: Any, stats: Any, images: jax.Array, *, train: bool) -> Any:
                params = spoil_gradient(params, bad, leaf) if place == "gradient" else params
                logits, stats = real_apply(graphdef, params, stats, images, train=train)
                return logits, (add(stats, bad, leaf) if place == "statistics" else stats)

            with mock.patch.object(step, "apply", apply):
                return made.update(state, images, targets.at[0, 0].add(bad) if place == "loss" else targets)

        return step.Step(made.prepare, update)

    with mock.patch.object(loop, "make_train_step", make_train_step):
        yield


def add(tree: Any, bad: jax.Array, number: int) -> Any:
    """The tree, with `bad` added to the first value of one of its leaves."""
    leaves, structure = jax.tree.flatten(tree)
    number %= len(leaves)
    leaves[number] = leaves[number].ravel().at[0].add(bad).reshape(leaves[number].shape)
    return jax.tree.unflatten(structure, leaves)


def spoil_gradient(params: Any, bad: jax.Array, number: int) -> Any:
    """The parameters as they are; `bad` is added to the gradient that comes back to them."""

    @jax.custom_vjp
    def same(params: Any, bad: jax.Array) -> Any:
        return params

    same.defvjp(lambda params, bad: (params, bad), lambda bad, grads: (add(grads, bad, number), jnp.zeros_like(bad)))
    return same(params, bad)


@contextmanager
def answering(epoch: int, value: float) -> Iterator[None]:
    """Within, an answer to a validation row is the value after that epoch."""
    real, calls = fit.make_predict, []

    def make_predict(*arguments: Any, **options: Any) -> Any:
        predict = real(*arguments, **options)

        def answer(*arguments: Any) -> np.ndarray:
            log_probs = predict(*arguments)
            log_probs[-1, 0] = value if len(calls) == epoch else log_probs[-1, 0]
            calls.append(len(log_probs))
            return log_probs

        return answer

    with mock.patch.object(fit, "make_predict", make_predict):
        yield


def ended_well(told: str, code: int | None, family: str, place: str, at: int, steps: int) -> str:
    """What is wrong with how the script ended; empty if nothing is."""
    number = steps if place == "answers" else at % steps + 1
    words = rf"error: {family}, seed 0: epoch {at // steps + 1}, step {number} of {steps}: loss \S+, "
    words += r"gradient_norm \S+, .*learning_rate \d\S+, rows \d+, .* Fix: .*\n"
    return "" if code == 3 and re.fullmatch(words, told) else f"exit {code}: {told}"


def what_stays(run: Path, epochs: int, steps: int) -> str:
    """What is wrong with the steps that were saved before; empty if nothing is: the last two epochs', and the best."""
    wanted = [epoch * steps for epoch in (epochs - 1, epochs) if epoch > 0]
    if checkpoint.steps(run / "state") != wanted:
        return f"{checkpoint.steps(run / 'state')} are there, not {wanted}"
    if not wanted:
        return "a best network is there" if checkpoint.steps(run / "best") else ""
    items = arrays(read_config(run))
    for number in wanted:
        history = check(run / "state" / str(number))["history"]
        if not is_finite(checkpoint.read(run / "state" / str(number), items)):
            return f"step {number} is not finite"
    accuracies = [row["valid_accuracy"] for row in history]
    best = steps * (1 + int(np.argmax(accuracies)))
    if checkpoint.steps(run / "best") != [best] or not np.isfinite(accuracies).all():
        return f"{checkpoint.steps(run / 'best')} is the best of {accuracies}"
    check(run / "best" / str(best))
    kept = checkpoint.read(run / "best" / str(best), {"average": items["average"]})
    return "" if is_finite(kept) else "the best network is not finite"


def arrays(config: RunConfig) -> dict[str, Any]:
    """What is saved of a training, with other numbers in it."""
    state = loop.make_train_loop(config, 1000).start(0)
    return {"average": state.average, "rest": state._replace(average={})}


def is_finite(tree: Any) -> bool:
    return all(np.isfinite(leaf).all() for leaf in flatten_named(tree).values())


def ensembles(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    """In turn, one of a member's answers is not finite, or one of its weights, and both are sealed as they are: what
    would average them refuses them by name."""
    process = start(pipeline(folder / "job"), folder / "cache")
    assert process.wait() == 0, process.communicate()[1]
    members = sorted((folder / "job" / "members").iterdir())
    for trial in range(trials):
        member, value = members[rng.integers(len(members))], float(rng.choice(VALUES))
        job = Path(shutil.copytree(folder / "job", folder / str(trial)))
        spoiled = (spoil_answers, spoil_weights)[trial % 2](job, member.name, value, rng)
        asked = ["ensemble", *OPTIONS, str(job)]
        if trial % 2:
            asked = ["evaluate", "--data", "digits", "--runs", str(member), str(spoiled), "--out", str(job)]
        process = start([sys.executable, "-m", f"experiments.{asked[0]}", *asked[1:]], folder / "cache")
        _, told = process.communicate(timeout=300)
        failure = "" if process.returncode == (3, 2)[trial % 2] and named(told, spoiled) else told
        for name in ("submission.csv", "report.json"):
            if (job / name).read_bytes() != (folder / "job" / name).read_bytes():
                failure = failure or f"{name} was written"
        yield Trial(True, f"{value} in {spoiled}: exit {process.returncode}: {failure}" if failure else "")
        shutil.rmtree(job)


def named(told: str, path: Path) -> bool:
    return told.startswith(f"error: {path}") and "finite" in told and told.count("\n") == 1


def spoil_answers(job: Path, name: str, value: float, rng: np.random.Generator) -> Path:
    path = job / "predictions" / name / f"{rng.choice(['valid', 'test'])}.npz"
    with np.load(path) as file:
        log_probs = file["log_probs"]
    log_probs.flat[rng.integers(log_probs.size)] = value
    np.savez(path, log_probs=log_probs)
    seal(path.parent, read_seal(path.parent)["made_from"])
    return path


def spoil_weights(job: Path, name: str, value: float, rng: np.random.Generator) -> Path:
    """-> a folder as `publish` makes it of that member, but for the value."""
    source, target = job / "members" / name, job / "published"
    trained = open_run(source)
    leaves = [*flatten_named({"params": trained.params, "stats": trained.stats}).items()]
    number = int(rng.integers(len(leaves)))
    leaf = leaves[number][1].copy()
    leaf.flat[rng.integers(leaf.size)] = value
    with sealed_folder(target, {}) as draft:
        np.savez(draft / "weights.npz", **{**dict(leaves), leaves[number][0]: leaf})
        for file in ("config.json", "metrics.csv", "train_rows.npy"):
            shutil.copyfile(source / file, draft / file)
    return target
