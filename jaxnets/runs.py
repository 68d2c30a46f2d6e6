"""A trained model's folder: config.json is its configuration, state/ its arrays, metrics.csv its history."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx

from jaxnets.config import MAX_SIZE, ModelRecipe, check_number, recipe_from_json, to_json
from jaxnets.data import Digits
from jaxnets.errors import InputError, short_message
from jaxnets.models import create_model
from jaxnets.models.functional import Arrays, merge, split
from jaxnets.store.atomic import read_json
from jaxnets.store.checkpoint import restore
from jaxnets.store.manifest import FILE_NAME as SEAL
from jaxnets.store.manifest import check_manifest
from jaxnets.store.weights import read_weights

RETRAIN_HINT = "train this run again, or fetch it again"
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A model's recipe, seed and training data: all that is needed to train it again."""

    recipe: ModelRecipe
    seed: int
    precision: str
    """dtype of the computation: float32, bfloat16 or float16."""
    image_shape: tuple[int, int, int]
    """(H, W, C)."""
    num_classes: int
    data: str
    """Name of the data; it does not affect the training."""
    data_sha256: str = ""
    """`digest` of the data; empty if the model is not kept."""
    pseudo_labels: int | None = None
    """Number of test images that a student was trained on; None for a model without pseudo-labels."""
    pseudo_labels_sha256: str | None = None
    """SHA-256 of the selected pseudo-labels."""

    def __post_init__(self) -> None:
        check_number("seed", self.seed, "an integer from 0 to 2**31 - 1", lambda x: 0 <= x < 2**31, int)
        check_number("num_classes", self.num_classes, f"2 to {MAX_SIZE}", lambda x: 2 <= x <= MAX_SIZE, int)
        for side in self.image_shape:
            check_number("image_shape", side, "three positive integers", lambda x: 1 <= x <= MAX_SIZE, int)
        if len(self.image_shape) != 3 or self.precision not in PRECISIONS:
            problem = f"{self.image_shape} {self.precision!r}"[:60] + " is not allowed"
            raise InputError("image_shape, precision", problem, f"give (H, W, C) and one of {', '.join(PRECISIONS)}")

    @staticmethod
    def of(recipe: ModelRecipe, digits: Digits, *, seed: int, precision: str, **others: Any) -> "RunConfig":
        """Return the configuration of a model of `recipe` for this data; `others` are fields with a default."""
        facts = {"num_classes": digits.num_classes, "data": digits.name, **others}
        return RunConfig(recipe=recipe, seed=seed, precision=precision, image_shape=digits.x_train.shape[1:], **facts)

    def settings(self) -> dict[str, Any]:
        """Return, as JSON, all fields that the training depends on: all but the name of the data."""
        return {name: value for name, value in to_json(self).items() if name != "data"}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "RunConfig":
        """Return the RunConfig that `to_json` made `value` of.

        Raises:
            InputError: a value is out of range.
            KeyError, TypeError: a field is missing, unknown or of a wrong type.
        """
        changed = {"recipe": recipe_from_json(value["recipe"]), "image_shape": tuple(value["image_shape"])}
        return RunConfig(**{**value, **changed})


class Run(NamedTuple):
    """A trained model: its EMA parameters and batch-norm statistics, as arguments of `functional.apply`."""

    config: RunConfig
    graphdef: nnx.GraphDef
    params: Arrays
    stats: Arrays

    def model(self) -> nnx.Module:
        """Return the model as an NNX object in evaluation mode."""
        return merge(self.graphdef, self.params, self.stats)

    def computing_in(self, precision: str) -> "Run":
        """Return the same model for computation in another precision: float32, bfloat16 or float16."""
        config = replace(self.config, precision=precision)
        return self._replace(config=config, graphdef=split(nnx.eval_shape(lambda: build(config)))[0])


def build(config: RunConfig, *, axis_name: str | None = None) -> nnx.Module:
    """Return the untrained model of a run; its weights depend on the seed alone."""
    return create_model(
        config.recipe.family,
        **config.recipe.sizes,
        in_channels=config.image_shape[-1],
        num_classes=config.num_classes,
        dtype=config.precision,
        axis_name=axis_name,
        rngs=nnx.Rngs(config.seed),
    )


def init_arrays(config: RunConfig, *, axis_name: str | None = None) -> tuple[nnx.GraphDef, Arrays, Arrays]:
    """Return graphdef, params and stats of the untrained model, from one compiled call instead of one per layer.

    It runs once, so it is compiled without optimisation, in a quarter of the time.
    """

    def make() -> nnx.Module:
        return build(config, axis_name=axis_name)

    graphdef, _, _ = split(nnx.eval_shape(make))
    params, stats = jax.jit(lambda: split(make())[1:], compiler_options={"xla_backend_optimization_level": 0})()
    return graphdef, params, stats


def read_config(folder: Path) -> RunConfig:
    """Return a run's configuration. Raises InputError if `folder` is no run or its config.json is damaged."""
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(
            folder, "is no trained run: it has no config.json", "name a folder such as RESULTS/members/FAMILY-SEED"
        )
    value = read_json(path, RETRAIN_HINT)
    try:
        return RunConfig.from_json(value)
    except InputError as error:
        raise InputError(f"{path}: {error.location}", error.problem, error.fix) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(path, f"is damaged ({short_message(error)})", RETRAIN_HINT) from error


def outline(folder: Path, config: RunConfig) -> tuple[nnx.GraphDef, Arrays, Arrays]:
    """Return graphdef, and shapes and dtypes of params and stats. Raises InputError if `config`, read from `folder`,
    describes no model."""
    try:
        return split(nnx.eval_shape(lambda: build(config)))
    except (ValueError, TypeError, ArithmeticError) as error:  # sizes that do not fit together
        raise InputError(
            folder / "config.json", f"describes no model ({short_message(error)})", RETRAIN_HINT
        ) from error


def open_run(folder: str | Path) -> Run:
    """Return the trained model in `folder`, that of its last epoch, as NumPy arrays. Raises InputError if it is no run,
    is damaged, or its training is not finished."""
    folder = Path(folder)
    published = (folder / "weights.npz").is_file()
    if published or (folder / SEAL).is_file():  # a folder that only `fit` wrote has seals in its checkpoints alone
        check_manifest(folder)
    config = read_config(folder)
    graphdef, params, stats = outline(folder, config)
    ema = {"params": params, "stats": stats}
    if published:
        try:
            return Run(config, graphdef, **read_weights(folder / "weights.npz", ema))
        except ValueError as error:
            raise InputError(folder, str(error), "fetch it again") from error
    restored = restore(folder / "state", {"average": ema})
    if restored is None:
        raise InputError(folder, "holds no finished state", "start its training again to finish it")
    epochs, finished = config.recipe.training.epochs, len(restored.metadata.get("history", []))
    if finished < epochs:
        problem = f"was trained for {finished} of {epochs} epochs"
        raise InputError(folder, problem, "start its training again to finish it")
    return Run(config, graphdef, **restored.items["average"])
