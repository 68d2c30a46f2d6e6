"""Lists the families: how large they are in a preset, how much they compute for an image, and how good the networks
are that come with the repository."""

from dataclasses import dataclass
from typing import Any, Literal

from experiments.cli.console import percent, show_table
from experiments.cli.options import run
from jaxnets import recipes
from jaxnets.config import Recipe
from jaxnets.store.atomic import read_json
from jaxnets.store.manifest import check


@dataclass(frozen=True, kw_only=True)
class ModelsOptions:
    preset: Literal["smoke", "quick", "standard", "competition"] = "standard"
    """Whose sizes: those that come with the repository are of standard."""


def describe(recipe: Recipe) -> dict[str, Any]:
    """-> parameters, and floating-point operations of the answer to an image of 28 x 28, as XLA counts them."""
    import jax
    import numpy as np
    from flax import nnx

    from jaxnets.models import create_model
    from jaxnets.models.functional import apply, count, split

    sizes: Any = recipe.sizes
    graphdef, params, stats = split(nnx.eval_shape(lambda: create_model(recipe.family, **sizes)))
    image = jax.ShapeDtypeStruct((1, 28, 28, 1), np.float32)
    answer = jax.jit(lambda params, stats, image: apply(graphdef, params, stats, image, train=False)[0])
    costs: Any = answer.lower(params, stats, image).cost_analysis()
    return {"parameters": count(params), "flops": costs["flops"]}


def shipped(family: str) -> str:
    """The test accuracy of the network of that family that comes with the repository."""
    from jaxnets.store.weights import PRETRAINED

    folder = PRETRAINED / family
    if not folder.is_dir():
        return "-"
    check(folder)
    return percent(read_json(folder / "result.json")["test_accuracy"])


def main(options: ModelsOptions) -> None:
    from jaxnets.devices import choose_devices

    choose_devices(None)
    rows = []
    for recipe in recipes.preset(options.preset).recipes:
        size = describe(recipe)
        accuracy = shipped(recipe.family) if options.preset == "standard" else "-"
        numbers = [f"{size['parameters']:,}", f"{size['flops'] / 1e6:,.1f}"]
        rows.append([recipe.family, *numbers, accuracy])
    show_table(f"{options.preset}, 28 x 28 pixels", ["family", "parameters", "million flops", "MNIST test"], rows)


if __name__ == "__main__":
    run(main, ModelsOptions, resumes=False)
