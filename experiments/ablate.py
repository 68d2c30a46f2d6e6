"""Which ingredient is worth what: trains one family with one thing changed at a time, on cross-validation folds of the
training rows. Test rows are not read. A CSV with a line a training, and a table; interrupted, it goes on."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from experiments.console import live_line, say, show_table
from experiments.options import Options, run, start_jax, writable
from experiments.variants import Variant, trainer, variants
from jaxnets import data, recipes
from jaxnets.config import to_json
from jaxnets.errors import InputError
from jaxnets.files import atomic_file

if TYPE_CHECKING:
    import pandas as pd

KEY = ["data", "family", "change", "recipe", "folds", "fold", "seed"]
ERRORS = ["errors", "errors_live_statistics", "errors_last"]


@dataclass(frozen=True, kw_only=True)
class AblateOptions:
    family: str = "wide_cnn"
    """resnet, deep_cnn, wide_cnn, inception or senet."""
    preset: Literal["smoke", "quick", "standard", "full"] = "quick"
    """Whose recipe is changed."""
    epochs: int | None = None
    """Of the recipe, if not the preset's."""
    changes: tuple[str, ...] = ()
    """Names from the table; all unless given. The recipe itself is always trained."""
    folds: int = 5
    """Into how many parts the training rows are cut; each is once what is validated."""
    seeds: int = 1
    """Trainings of each fold."""
    data: str = "mnist"
    """mnist, kaggle, or digits for a try."""
    devices: int | None = None
    """How many devices to use: all unless given."""
    out: Path = Path("checkpoints/ablate.csv")
    """The CSV. What stands in it already is not trained again."""


def chosen(options: AblateOptions) -> dict[str, Variant]:
    """The variants to train, the recipe first."""
    recipe = recipes.preset(options.preset).recipe(options.family)
    if options.epochs is not None:
        recipe = replace(recipe, training=replace(recipe.training, epochs=options.epochs))
    known = variants(recipe)
    for name in options.changes:
        if name not in known:
            raise InputError("--changes", f"{name!r} is not known", f"choose from {', '.join(known)}")
    return {name: variant for name, variant in known.items() if name in ("recipe", *(options.changes or known))}


def fold_rows(labels: np.ndarray, folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """labels (N,) -> rows to train on, as many in every fold, and rows to validate on."""
    from sklearn.model_selection import StratifiedKFold

    parts = list(StratifiedKFold(folds, shuffle=True, random_state=0).split(labels, labels))
    rows = min(len(train) for train, _ in parts)
    return [(train[:rows], valid) for train, valid in parts]


def read_lines(path: Path) -> "pd.DataFrame":
    """What was measured before; InputError if the file holds something else."""
    import pandas as pd

    columns = [*KEY, "epochs", "valid_rows", *ERRORS]
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    try:
        return pd.read_csv(path, dtype={"recipe": str})[columns]
    except (ValueError, KeyError) as error:
        raise InputError(path, f"is no table of ablations ({error})", "delete it, or give another --out") from error


def keys(options: AblateOptions, name: str, variant: Variant) -> Iterator[dict[str, Any]]:
    """What identifies each training of a variant."""
    text = json.dumps([to_json(variant.recipe), variant.stretch, variant.calm], sort_keys=True)
    for seed in range(options.seeds):
        for fold in range(options.folds):
            yield {
                "data": options.data,
                "family": options.family,
                "change": name,
                "recipe": hashlib.sha256(text.encode()).hexdigest()[:8],
                "folds": options.folds,
                "fold": fold,
                "seed": seed,
            }


def measure(options: AblateOptions, work: dict[str, Variant], digits: data.Digits) -> "pd.DataFrame":
    """Trains what the CSV lacks, a line each -> the lines of this command."""
    import pandas as pd

    from jaxnets.devices import choose_devices, default_precision

    lines = read_lines(options.out)
    devices = choose_devices(options.devices)
    folds = fold_rows(digits.y_train, options.folds)
    wanted = {name: list(keys(options, name, variant)) for name, variant in work.items()}
    all_keys = pd.DataFrame([key for name in work for key in wanted[name]])
    done = lambda key: bool((lines[KEY] == pd.Series(key)[KEY]).all(axis=1).any())
    for name, variant in work.items():
        missing = [key for key in wanted[name] if not done(key)]
        if not missing:
            continue
        epochs = variant.recipe.training.epochs
        train = trainer(variant, digits, len(folds[0][0]), devices, default_precision(devices))
        for key in missing:
            label = f"{name}, fold {key['fold'] + 1} of {options.folds}, seed {key['seed']}"
            with live_line() as show:
                train_rows, valid_rows = folds[key["fold"]]
                errors = train(key["seed"], train_rows, valid_rows, partial(progress, show, label))
                show(f"{label}: {errors['errors']} of {len(valid_rows):,} wrong", keep=True)
            line = pd.DataFrame([key | {"epochs": epochs, "valid_rows": len(valid_rows)} | errors])
            lines = pd.concat([lines, line]) if len(lines) else line
            with atomic_file(options.out) as draft:
                lines.to_csv(draft, index=False)
    return lines.merge(all_keys, on=KEY)


def progress(show: Callable[..., None], label: str, epoch: int, step: int) -> None:
    show(f"{label}: epoch {epoch + 1}, step {step}")


class Row(NamedTuple):
    """A change's validation error, mean and standard error over n trainings in per cent, and how much that is above
    the recipe's on the same folds and seeds; `p` is of the paired t-test."""

    change: str
    n: int
    error: float
    error_se: float
    above: float = 0.0
    above_se: float = 0.0
    p: float = math.nan


def summarise(lines: "pd.DataFrame") -> list[Row]:
    """A row a change in the order of the lines, then what the recipe's own trainings say of averaging."""
    from scipy.stats import sem, ttest_rel

    per_cent = lambda part, column: (100 * part[column] / part["valid_rows"]).to_numpy(float)
    ordered = lines.sort_values(["seed", "fold"], kind="stable")
    recipe = ordered[ordered["change"] == "recipe"]
    cases = [(name, ordered[ordered["change"] == name], "errors") for name in lines["change"].unique()]
    cases += [("averaged weights, live statistics", recipe, ERRORS[1]), ("last weights", recipe, ERRORS[2])]
    rows = []
    for name, part, column in cases:
        errors, base = per_cent(part, column), per_cent(recipe, "errors")
        row = Row(name, len(errors), errors.mean(), sem(errors) if len(errors) > 1 else math.nan)
        above = errors - base
        if len(errors) > 1:
            row = row._replace(above=above.mean(), above_se=sem(above))
        if row.above_se > 1e-9:  # with equal differences there is nothing to test
            row = row._replace(p=float(ttest_rel(errors, base).pvalue))
        rows.append(row)
    return rows


def show(options: AblateOptions, lines: "pd.DataFrame") -> None:
    cells = []
    for row in summarise(lines):
        above = "" if row.change == "recipe" else f"{row.above:+.3f} ± {row.above_se:.3f}"
        p = "" if math.isnan(row.p) else f"{row.p:.3f}"
        cells.append([row.change, f"{row.n}", f"{row.error:.3f} ± {row.error_se:.3f}", above, p])
    title = f"{options.family} of {options.preset} on {options.data}: validation error, %, mean ± standard error"
    show_table(title, ["change", "n", "error", "above the recipe", "p"], cells)


def main(options: AblateOptions) -> None:
    for name, value, least in (("folds", options.folds, 2), ("seeds", options.seeds, 1)):
        if value < least:
            raise InputError(f"--{name}", f"is {value}", f"give a whole number of at least {least}")
    work = chosen(options)
    writable(options.out.parent)
    digits = data.load(options.data)
    start_jax(Options())
    show(options, measure(options, work, digits))
    say(f"{options.out}")


if __name__ == "__main__":
    run(main, AblateOptions)
