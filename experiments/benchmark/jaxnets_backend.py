"""jaxnets' own side of the benchmark: the training step, epoch and prediction that its experiments run."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.augment import tta_views
from jaxnets.config import NO_WARP, AugmentConfig, ModelRecipe
from jaxnets.devices import AXIS, choose_devices, default_precision, replicate, shard_rows
from jaxnets.inference.predict import make_predict
from jaxnets.models.functional import apply, count
from jaxnets.runs import RunConfig, init_arrays
from jaxnets.training.loop import TrainLoop
from jaxnets.training.parallel import MIN_STEPS_TO_OPTIMIZE, compile_epoch
from jaxnets.training.step import one_hot_examples

from . import hlo
from .case import Case, Side, Weights


def build(case: Case) -> tuple[Side, Weights]:
    devices = choose_devices(case.devices)
    config = RunConfig(
        recipe=ModelRecipe(family=case.family, sizes=case.sizes, training=case.training),
        seed=0,
        precision=case.precision,
        image_shape=case.images.shape[1:],
        num_classes=10,
        data="mnist",
        data_sha256="",
    )
    graphdef, params, stats = init_arrays(config, axis_name=AXIS)
    params, stats = jax.device_get((params, stats))
    examples = replicate(one_hot_examples(case.images, case.labels, 10), devices)

    def trainer(augmentation: AugmentConfig) -> tuple[Callable[[], None], dict[str, float]]:
        """-> the steps, and what one costs."""
        recipe = replace(config.recipe, training=replace(case.training, augmentation=augmentation))
        loop = TrainLoop(config=replace(config, recipe=recipe), num_rows=len(case.images))
        state = replicate(loop.init(0), devices)
        order = loop.order(0, 0)[: case.steps]
        epochs = itertools.count()
        # Compiled as for a whole training, which is longer than the steps that are timed.
        run_epoch = compile_epoch(loop.train_step, devices, state, examples, order, total_steps=MIN_STEPS_TO_OPTIMIZE)
        mapped = jax.pmap(loop.train_step, AXIS, in_axes=(None, 0, 0), out_axes=None, devices=devices)
        shards = jax.tree.map(lambda array: np.asarray(array)[shard_rows(order[0], devices)], examples)
        lowered = mapped.lower(state, shards, shard_rows(np.arange(case.training.batch_size), devices))
        costs = {"flops_per_step": lowered.cost_analysis()["flops"]}
        if len(devices) > 1:
            costs["reduced_bytes_per_step"] = hlo.count(lowered.compile().as_text()).reduced_bytes

        def run() -> None:
            nonlocal state
            state, *_ = jax.block_until_ready(run_epoch(state, examples, loop.order(0, next(epochs))[: case.steps]))

        return run, costs

    step, costs = trainer(NO_WARP)
    loop, _ = trainer(case.training.augmentation)
    predict = make_predict(graphdef, devices)
    views = [None, *tta_views(case.views, case.training.augmentation, case.images.shape[1])[1:]]
    resident_params, resident_stats, resident_views = replicate((params, stats, views), devices)
    works = {
        "step": step,
        "loop": loop,
        "infer": lambda: predict(resident_params, resident_stats, case.images[: case.answered]),
        "tta": lambda: [predict(resident_params, resident_stats, case.viewed(), view) for view in resident_views],
    }
    probe = case.images[:32].astype(np.float32) / 255
    exact, _, _ = init_arrays(replace(config, precision="float32"), axis_name=AXIS)
    answer = lambda params, stats, images: apply(exact, params, stats, images, train=True)[0]
    logits = jax.pmap(answer, AXIS, in_axes=(None, None, 0), devices=devices[:1])(params, stats, probe[None])
    facts = {"parameters": count(params), **costs}
    return Side(works, lambda: device_bytes(devices[0]), facts), Weights(params, stats, probe, np.asarray(logits)[0])


def device_bytes(device: jax.Device) -> int | None:
    """The most memory that was ever in use on an accelerator; CPUs do not say."""
    return (device.memory_stats() or {}).get("peak_bytes_in_use")


def limits(precision: str) -> Side:
    """This machine, and its own limits through the same compiler: a large matrix product and a large copy."""
    devices = choose_devices(None)
    precision = default_precision(devices) if precision == "auto" else precision
    side, length = (2048, 2**26) if devices[0].platform == "cpu" else (8192, 2**28)
    matrix, line = jnp.ones((side, side), precision), jnp.ones(length, jnp.float32)
    product = jax.jit(lambda a: a @ a)
    copy = jax.jit(lambda a: a + 1, donate_argnums=0)  # into memory that is there: new pages would be timed as well

    def copied() -> None:
        nonlocal line
        line = jax.block_until_ready(copy(line))

    works = {
        "product": lambda: jax.block_until_ready(product(matrix)),
        "copy": copied,
    }
    facts = {
        "platform": devices[0].platform,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "precision": precision,
        "product_flops": 2 * side**3,
        "copy_bytes": 8 * length,
    }
    return Side(works, lambda: None, facts)
