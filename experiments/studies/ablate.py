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

from experiments.cli.console import live_line, say, show_table
from experiments.cli.options import MANY, Options, run, start_jax
from experiments.cli.paths import writable_file
from experiments.studies.variants import Variant, trainer, variants
from jaxnets import data, recipes
from jaxnets.config import to_json
from jaxnets.errors import DivergedError, InputError
from jaxnets.store.atomic import atomic_file

if TYPE_CHECKING:
    import pandas as pd

KEY = ["data", "data_sha256", "precision", "family", "change", "recipe", "folds", "fold", "seed"]
NUMBERS = ["folds", "fold", "seed", "epochs", "valid_rows", "errors", "errors_live_statistics", "errors_last"]
ERRORS = ["errors", "errors_live_statistics", "errors_last"]


@dataclass(frozen=True, kw_only=True)
class AblateOptions:
    family: str = "wide_cnn"
    """resnet, deep_cnn, wide_cnn, inception or senet."""
    preset: Literal["smoke", "quick", "standard", "competition"] = "quick"
    """Whose recipe is changed."""
    epochs: int | None = None
    """Of the recipe, if not the preset's."""
    learning_rate: float | None = None
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
    """The CSV. What stands in it already is not trained again. Commands that run side by side need one each."""


def chosen(options: AblateOptions) -> dict[str, Variant]:
    """The variants to train, the recipe first."""
    recipe = recipes.preset(options.preset).recipe(options.family)
    given: dict[str, Any] = {"epochs": options.epochs, "learning_rate": options.learning_rate}
    ours = {name: value for name, value in given.items() if value is not None}
    recipe = replace(recipe, training=replace(recipe.training, **ours))
    known = variants(recipe)
    for name in options.changes:
        if name not in known:
            raise InputError("--changes", f"{name!r} is not known", "choose from those of docs/ABLATIONS.md")
    return {name: variant for name, variant in known.items() if name in ("recipe", *(options.changes or known))}


def fold_rows(labels: np.ndarray, folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """labels (N,) -> rows to train on, as many in every fold, and rows to validate on."""
    parts = data.stratified_folds(labels, folds)
    rows = min(len(train) for train, _ in parts)
    return [(train[:rows], valid) for train, valid in parts]


def read_lines(path: Path) -> "pd.DataFrame":
    """What was measured before; InputError if the file holds something else, or less than whole lines."""
    import pandas as pd

    columns = list(dict.fromkeys([*KEY, *NUMBERS]))
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    try:
        lines = pd.read_csv(path, dtype=str)[columns]
        return lines.astype(dict.fromkeys(NUMBERS, int)).drop_duplicates(KEY)
    except (ValueError, KeyError) as error:
        problem = " ".join(str(error).split())
        raise InputError(path, f"is no table of ablations ({problem})", "delete it, or give another --out") from error


def keys(options: AblateOptions, facts: dict[str, str], name: str, variant: Variant) -> Iterator[dict[str, Any]]:
    """What identifies each training of a variant."""
    text = json.dumps([to_json(variant.recipe), variant.stretch, variant.calm], sort_keys=True)
    recipe = {"change": name, "recipe": hashlib.sha256(text.encode()).hexdigest()[:8]}
    for seed in range(options.seeds):
        for fold in range(options.folds):
            yield facts | {"family": options.family} | recipe | {"folds": options.folds, "fold": fold, "seed": seed}


def measure(options: AblateOptions, work: dict[str, Variant], digits: data.Digits) -> "pd.DataFrame":
    """Trains what the CSV lacks, a line each -> the lines of this command."""
    import pandas as pd

    from jaxnets.devices import choose_devices, default_precision
    from jaxnets.training.parallel import check_batch

    lines, folds = read_lines(options.out), fold_rows(digits.y_train, options.folds)
    devices = choose_devices(options.devices)
    for variant in work.values():
        check_batch(variant.recipe.training.batch_size, len(folds[0][0]), devices)
    writable_file(options.out)
    facts = {"data": options.data, "data_sha256": data.digest(digits)[:8], "precision": default_precision(devices)}
    wanted = {name: list(keys(options, facts, name, variant)) for name, variant in work.items()}
    identity = lambda key: tuple(map(str, (key[column] for column in KEY)))
    done = {identity(line) for line in lines.to_dict("records")}
    for name, variant in work.items():
        missing = [key for key in wanted[name] if identity(key) not in done]
        if not missing:
            continue
        train = trainer(variant, digits, len(folds[0][0]), devices, facts["precision"])
        for key in missing:
            label = f"{name}, fold {key['fold'] + 1} of {options.folds}, seed {key['seed']}"
            with live_line() as show:
                train_rows, valid_rows = folds[key["fold"]]
                try:
                    errors = train(key["seed"], train_rows, valid_rows, partial(progress, show, label))
                except DivergedError as error:
                    raise DivergedError(f"{label}: {error}") from error
                show(f"{label}: {errors['errors']} of {len(valid_rows):,} wrong", keep=True)
            sizes = {"epochs": variant.recipe.training.epochs, "valid_rows": len(valid_rows)}
            line = pd.DataFrame([key | sizes | errors])
            lines = pd.concat([lines, line]) if len(lines) else line
            with atomic_file(options.out) as draft:
                lines.to_csv(draft, index=False)
    return lines.merge(pd.DataFrame([key for name in work for key in wanted[name]]), on=KEY)


def progress(show: Callable[..., None], label: str, epoch: int, step: int) -> None:
    show(f"{label}: epoch {epoch + 1}, step {step}")


class Row(NamedTuple):
    """A change's validation error in per cent, the mean of k folds, and how much that is above the recipe's on the same
    folds and seeds. Networks of different folds were trained on much the same rows, so the standard errors are the
    corrected ones of Nadeau and Bengio 2003; `p` is of the paired t-test with them, after Holm 1979 for all
    changes of the table together."""

    change: str
    trainings: int
    error: float
    error_se: float
    above: float = 0.0
    above_se: float = 0.0
    p: float = math.nan


def corrected(values: np.ndarray) -> float:
    """values (k,), one a fold -> the standard error of their mean, folds sharing their training rows; NaN for one."""
    folds = len(values)
    return float(values.std(ddof=1) * np.sqrt(1 / folds + 1 / (folds - 1))) if folds > 1 else math.nan


def summarise(lines: "pd.DataFrame") -> list[Row]:
    """A row a change in the order of the lines, then what the recipe's own trainings say of averaging."""
    from scipy.stats import t

    def by_fold(part: "pd.DataFrame", column: str) -> np.ndarray:
        share = 100 * part[column].astype(float) / part["valid_rows"].astype(float)
        return share.groupby(part["fold"].astype(int)).mean().to_numpy()

    recipe = lines[lines["change"] == "recipe"]
    base = by_fold(recipe, "errors")
    cases = [(name, lines[lines["change"] == name], "errors") for name in lines["change"].unique()]
    cases += [("averaged weights, live statistics", recipe, ERRORS[1]), ("last weights", recipe, ERRORS[2])]
    rows = []
    for name, part, column in cases:
        errors = by_fold(part, column)
        above, spread = errors - base, corrected(errors - base)
        row = Row(name, len(part), errors.mean(), corrected(errors), above.mean(), spread)
        # With equal differences there is nothing to test.
        rows.append(row._replace(p=float(2 * t.sf(abs(row.above) / spread, len(above) - 1))) if spread > 1e-9 else row)
    return holm(rows)


def holm(rows: list[Row]) -> list[Row]:
    """The rows with p made larger, so that the chance of any false alarm among them stays below the level."""
    order = sorted((row.p, place) for place, row in enumerate(rows) if not math.isnan(row.p))
    rows, least = list(rows), 0.0
    for rank, (p, place) in enumerate(order):
        least = max(least, min(1.0, p * (len(order) - rank)))
        rows[place] = rows[place]._replace(p=least)
    return rows


def show(options: AblateOptions, lines: "pd.DataFrame") -> None:
    cells = []
    for row in summarise(lines):
        above = "" if row.change == "recipe" else f"{row.above:+.3f} ± {row.above_se:.3f}"
        p = "" if math.isnan(row.p) else f"{row.p:.3f}"
        cells.append([row.change, f"{row.trainings}", f"{row.error:.3f} ± {row.error_se:.3f}", above, p])
    title = f"{options.family} of {options.preset} on {options.data}: validation error, %, mean ± standard error"
    show_table(title, ["change", "n", "error", "above the recipe", "p"], cells)


def main(options: AblateOptions) -> None:
    if not 1 <= options.seeds <= MANY:
        raise InputError("--seeds", f"is {options.seeds}", f"give a whole number from 1 to {MANY}")
    work = chosen(options)
    digits = data.load(options.data)
    start_jax(Options())
    show(options, measure(options, work, digits))
    say(f"{options.out}")


if __name__ == "__main__":
    run(main, AblateOptions)
