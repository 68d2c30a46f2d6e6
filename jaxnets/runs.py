"""A run's folder: config.json says what it is, state/ holds its arrays, metrics.csv its history. Written here,
opened here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx

from jaxnets.config import MANY, Recipe, check_number, recipe_from_json, to_json
from jaxnets.data import Digits
from jaxnets.errors import InputError, brief
from jaxnets.models import create_model
from jaxnets.models.functional import Arrays, merge, split
from jaxnets.store.atomic import read_json
from jaxnets.store.checkpoint import restore
from jaxnets.store.manifest import FILE as SEAL
from jaxnets.store.manifest import check
from jaxnets.store.weights import read_weights

AGAIN = "train this run again, or fetch it again"
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What one trained network is made of and what it was trained on: enough to make it again. `pseudo_labels` is
    how many test rows a student was shown, None for a network that saw none, and `pseudo_labels_sha256` the identity
    of their sealed folder."""

    recipe: Recipe
    seed: int
    precision: str
    image_shape: tuple[int, int, int]
    num_classes: int
    data: str
    data_sha256: str
    pseudo_labels: int | None = None
    pseudo_labels_sha256: str | None = None

    def __post_init__(self) -> None:
        check_number("seed", self.seed, "a whole number from 0 to 2**31 - 1", lambda x: 0 <= x < 2**31, int)
        check_number("num_classes", self.num_classes, f"2 to {MANY}", lambda x: 2 <= x <= MANY, int)
        for side in self.image_shape:
            check_number("image_shape", side, "three whole numbers", lambda x: 1 <= x <= MANY, int)
        if len(self.image_shape) != 3 or self.precision not in PRECISIONS:
            problem = f"{self.image_shape} {self.precision!r}"[:60] + " is not allowed"
            raise InputError("image_shape, precision", problem, f"give (H, W, C) and one of {', '.join(PRECISIONS)}")

    @staticmethod
    def of(
        recipe: Recipe,
        digits: Digits,
        *,
        seed: int,
        precision: str,
        data_sha256: str = "",
        pseudo_labels: int | None = None,
        pseudo_labels_sha256: str | None = None,
    ) -> "RunConfig":
        """For networks that are kept, `data_sha256` is the data's `digest`."""
        return RunConfig(
            recipe=recipe,
            seed=seed,
            precision=precision,
            image_shape=digits.x_train.shape[1:],
            num_classes=digits.num_classes,
            data=digits.name,
            data_sha256=data_sha256,
            pseudo_labels=pseudo_labels,
            pseudo_labels_sha256=pseudo_labels_sha256,
        )

    def settings(self) -> dict[str, Any]:
        """All that the training follows from, as JSON; a file of data may be renamed."""
        return {name: value for name, value in to_json(self).items() if name != "data"}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "RunConfig":
        changed = {"recipe": recipe_from_json(value["recipe"]), "image_shape": tuple(value["image_shape"])}
        return RunConfig(**{**value, **changed})


class Run(NamedTuple):
    """A trained network, its arrays as `functional.apply` takes them."""

    config: RunConfig
    graphdef: nnx.GraphDef
    params: Arrays
    stats: Arrays

    def model(self) -> nnx.Module:
        """The network as an NNX object in evaluation mode."""
        return merge(self.graphdef, self.params, self.stats)


def build(config: RunConfig, *, axis_name: str | None = None) -> nnx.Module:
    """The untrained network of a run; its weights follow from the seed."""
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
    """-> graphdef, params, stats of the untrained network: one compiled call instead of a dispatch for each layer.

    It runs once, so it is compiled without optimisation, in a quarter of the time.
    """
    make = lambda: build(config, axis_name=axis_name)
    graphdef, _, _ = split(nnx.eval_shape(make))
    params, stats = jax.jit(lambda: split(make())[1:], compiler_options={"xla_backend_optimization_level": 0})()
    return graphdef, params, stats


def read_config(folder: Path) -> RunConfig:
    """Raises InputError where `folder` is no run."""
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(folder, "is no trained run: it has no config.json", "name one, like JOB/members/FAMILY-SEED")
    value = read_json(path, AGAIN)
    try:
        return RunConfig.from_json(value)
    except InputError as error:
        raise InputError(f"{path}: {error.place}", error.problem, error.fix) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(path, f"is damaged ({brief(error)})", AGAIN) from error


def outline(folder: Path, config: RunConfig) -> tuple[nnx.GraphDef, Arrays, Arrays]:
    """-> graphdef, and the shapes of params and stats. InputError if there is no such network as config.json says."""
    try:
        return split(nnx.eval_shape(lambda: build(config)))
    except (ValueError, TypeError, ArithmeticError) as error:  # of sizes that do not go together
        raise InputError(folder / "config.json", f"describes no network ({brief(error)})", AGAIN) from error


def open_run(folder: str | Path, *, best: bool = False) -> Run:
    """The trained network in `folder`: averaged weights and statistics of its last epoch, as NumPy arrays, or those of
    the epoch with the `best` accuracy on validation rows. Where a run was published there are only the last ones.

    Raises InputError where it is no run, is damaged, or was not trained to its end: of that one the best epoch so far
    can be had.
    """
    folder = Path(folder)
    published = (folder / "weights.npz").is_file()
    if published or (folder / SEAL).is_file():  # a state that fit alone has left has a seal of its own
        check(folder)
    config = read_config(folder)
    graphdef, params, stats = outline(folder, config)
    average = {"params": params, "stats": stats}
    if published and not best:
        try:
            return Run(config, graphdef, **read_weights(folder / "weights.npz", average))
        except ValueError as error:
            raise InputError(folder, str(error), "fetch it again") from error
    restored = restore(folder / ("best" if best else "state"), {"average": average})
    if restored is None:
        raise InputError(folder, "holds no finished state", "let its training end: start it again")
    epochs, done = config.recipe.training.epochs, len(restored.facts.get("history", []))
    if done < epochs and not best:
        raise InputError(folder, f"was trained for {done} of {epochs} epochs", "let its training end: start it again")
    return Run(config, graphdef, **restored.items["average"])
