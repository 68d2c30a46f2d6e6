"""Lists the model families with their size, their cost per image and the accuracy of the pretrained models."""

from dataclasses import dataclass
from typing import Any

from jaxnets import recipes
from jaxnets.config import ModelRecipe
from jaxnets.store.atomic import read_json
from jaxnets.store.manifest import check_manifest

from ..cli.console import percent, show_table
from ..cli.options import NamedPreset, run


@dataclass(frozen=True, kw_only=True)
class ModelsOptions:
    preset: NamedPreset = "standard"
    """Preset that defines the sizes of the models. The pretrained models are those of standard."""


def describe(recipe: ModelRecipe) -> dict[str, Any]:
    """Return the number of parameters and XLA's count of floating-point operations for one image of 28 x 28 pixels."""
    import jax
    import numpy as np
    from flax import nnx

    from jaxnets.models import create_model
    from jaxnets.models.functional import apply, count, split

    sizes: Any = recipe.sizes
    graphdef, params, stats = split(nnx.eval_shape(lambda: create_model(recipe.family, **sizes)))
    image = jax.ShapeDtypeStruct((1, 28, 28, 1), np.float32)
    predict = jax.jit(lambda params, stats, image: apply(graphdef, params, stats, image, train=False)[0])
    costs: Any = predict.lower(params, stats, image).cost_analysis()
    return {"parameters": count(params), "flops": costs["flops"]}


def pretrained_accuracy(family: str) -> str:
    """Return the test accuracy of the pretrained model of a family; "-" if there is none."""
    from jaxnets.store.weights import PRETRAINED

    folder = PRETRAINED / family
    if not folder.is_dir():
        return "-"
    check_manifest(folder)
    return percent(read_json(folder / "result.json")["test_accuracy"])


def main(options: ModelsOptions) -> None:
    from jaxnets.devices import choose_devices

    choose_devices(None)
    rows = []
    for recipe in recipes.preset(options.preset).recipes:
        size = describe(recipe)
        accuracy = pretrained_accuracy(recipe.family) if options.preset == "standard" else "-"
        numbers = [f"{size['parameters']:,}", f"{size['flops'] / 1e6:,.1f}"]
        rows.append([recipe.family, *numbers, accuracy])
    show_table(
        f"{options.preset}, 28 x 28 pixels", ["family", "parameters", "MFLOP per image", "MNIST test accuracy"], rows
    )


if __name__ == "__main__":
    run(main, ModelsOptions, resumes=False)
