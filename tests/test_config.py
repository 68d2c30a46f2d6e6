import json
from dataclasses import FrozenInstanceError, replace

import pytest

from jaxnets import recipes
from jaxnets.config import (
    NO_WARP,
    AugmentConfig,
    ModelRecipe,
    Preset,
    PseudoLabelConfig,
    TrainConfig,
    WarpConfig,
    recipe_from_json,
    to_json,
)
from jaxnets.errors import InputError

NAN = float("nan")
BAD = [
    *((AugmentConfig, name, value) for name in vars(AugmentConfig()) for value in (-0.1, 90.0, NAN)),
    *((TrainConfig, name, value) for name in ("epochs", "batch_size") for value in (0, -1, NAN)),
    (TrainConfig, "batch_size", 1),
    *((TrainConfig, name, value) for name in ("learning_rate", "clip_norm") for value in (0.0, -1.0, NAN)),
    *((TrainConfig, name, 10.0) for name in ("learning_rate", "weight_decay")),
    *((TrainConfig, name, 1.0) for name in ("warmup", "label_smoothing", "ema_decay")),
    *((TrainConfig, name, -0.1) for name in ("warmup", "weight_decay", "label_smoothing", "ema_decay")),
    *((PseudoLabelConfig, name, value) for name in ("threshold", "agreement", "weight") for value in (0.0, 1.01, NAN)),
    (PseudoLabelConfig, "per_class", 0),
]


@pytest.mark.parametrize(("kind", "name", "value"), BAD)
def test_a_bad_value_raises_with_its_name_and_a_fix(kind, name, value):
    with pytest.raises(InputError, match=rf"^{name}: {value!r} is not allowed. Fix: give .+\.$"):
        kind(**{name: value})
    with pytest.raises(InputError, match=f"^{name}: "):
        replace(kind(), **{name: value})


def test_every_number_is_validated():
    checked = {(kind, name) for kind, name, _ in BAD}
    numbers = {(kind, name) for kind in (AugmentConfig, TrainConfig, PseudoLabelConfig) for name in vars(kind())}
    assert numbers - checked == {(TrainConfig, "augmentation")}


def test_a_recipe_is_restored_from_json():
    augmentation = AugmentConfig(zoom=0.123456789, mixup_alpha=0.4)
    training = TrainConfig(epochs=3, learning_rate=1e-4, augmentation=augmentation)
    recipe = ModelRecipe(family="deep_cnn", sizes={"width": 24, "depth": 7}, training=training)
    for original in (recipe, ModelRecipe(family="resnet")):
        assert recipe_from_json(json.loads(json.dumps(to_json(original)))) == original
    assert recipe_from_json(to_json(recipe)) != ModelRecipe(family="deep_cnn")


def test_json_with_a_bad_value_raises():
    value = to_json(ModelRecipe(family="resnet"))
    value["training"]["augmentation"]["zoom"] = -1
    with pytest.raises(InputError, match="zoom"):
        recipe_from_json(value)


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        TrainConfig().epochs = 3


def test_a_preset_finds_its_recipe_or_lists_those_it_has():
    known = (ModelRecipe(family="resnet"), ModelRecipe(family="senet"))
    preset = Preset(name="small", recipes=known, students=("senet",))
    assert preset.recipe("senet") is known[1]
    with pytest.raises(InputError, match=r"^family: preset small has no family 'vgg'.*one of resnet, senet"):
        preset.recipe("vgg")


@pytest.mark.parametrize("name", recipes.PRESETS)
def test_a_preset_has_its_name(name):
    assert recipes.preset(name).name == name


def test_an_unknown_preset_lists_those_that_exist():
    with pytest.raises(InputError, match=r"^preset: 'huge' is unknown.*one of smoke, .*, fashion"):
        recipes.preset("huge")


def test_no_warp_turns_every_warp_off():
    assert not NO_WARP.has_warp()
    assert not AugmentConfig(**(vars(NO_WARP) | {"mixup_alpha": 0.4})).has_warp()
    for name in WarpConfig.__dataclass_fields__:
        assert AugmentConfig(**(vars(NO_WARP) | {name: 0.1})).has_warp()
