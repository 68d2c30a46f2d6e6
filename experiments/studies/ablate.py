"""Ablation study: trains one family with one ingredient changed at a time, on cross-validation folds of the training
images. Test images are not read. Writes a CSV with one line per training and prints a table; resumes if interrupted."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxnets import data, recipes
from jaxnets.config import to_json
from jaxnets.errors import DivergedError, InputError
from jaxnets.store.atomic import atomic_file

from ..cli.console import live_line, say, show_table
from ..cli.options import NamedPreset, Options, check_count, run, start_jax
from ..cli.paths import writable_file
from .variants import Variant, trainer, variants

if TYPE_CHECKING:
    import pandas as pd

KEY_COLUMNS = ["data", "data_sha256", "precision", "family", "change", "recipe", "folds", "fold", "seed"]
NUMBERS = ["folds", "fold", "seed", "epochs", "valid_rows", "errors", "errors_live_statistics", "errors_last"]


@dataclass(frozen=True, kw_only=True)
class AblateOptions:
    family: str = "wide_cnn"
    """Family to train: resnet, deep_cnn, wide_cnn, inception or senet."""
    preset: NamedPreset = "quick"
    """Preset whose recipe is changed."""
    epochs: int | None = None
    """Number of epochs of the recipe (default: the preset's)."""
    learning_rate: float | None = None
    """Learning rate of the recipe (default: the preset's)."""
    changes: tuple[str, ...] = ()
    """Names of the changes, as in the table (default: all). The recipe itself is always trained."""
    folds: int = 5
    """Number of cross-validation folds of the training images."""
    seeds: int = 1
    """Number of trainings per fold, with different seeds."""
    data: str = "mnist"
    """Data to train on: mnist, kaggle, or digits for a quick try."""
    devices: int | None = None
    """Number of devices to use (default: all)."""
    out: Path = Path("checkpoints/ablate.csv")
    """CSV of the results. Trainings that it already contains are skipped. Parallel commands need a file each."""


def select_variants(options: AblateOptions) -> dict[str, Variant]:
    """Return the variants to train by name, the recipe first."""
    recipe = recipes.preset(options.preset).recipe(options.family)
    values: dict[str, Any] = {"epochs": options.epochs, "learning_rate": options.learning_rate}
    changes = {name: value for name, value in values.items() if value is not None}
    recipe = replace(recipe, training=replace(recipe.training, **changes))
    known = variants(recipe)
    for name in options.changes:
        if name not in known:
            raise InputError("--changes", f"{name!r} is unknown", "choose from the table in docs/ABLATIONS.md")
    return {name: variant for name, variant in known.items() if name in ("recipe", *(options.changes or known))}


def fold_rows(labels: np.ndarray, folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the training and validation rows of each fold. labels (N,).

    All folds have equally many training rows, so that one compiled program trains them all.
    """
    splits = data.stratified_folds(labels, folds)
    num_rows = min(len(train) for train, _ in splits)
    return [(train[:num_rows], valid) for train, valid in splits]


def read_lines(path: Path) -> "pd.DataFrame":
    """Return the trainings measured so far, one per line; none if there is no file. Raises InputError if it is damaged
    or not a CSV of this program."""
    import pandas as pd

    columns = list(dict.fromkeys([*KEY_COLUMNS, *NUMBERS]))
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    try:
        lines = pd.read_csv(path, dtype=str)[columns]
        return lines.astype(dict.fromkeys(NUMBERS, int)).drop_duplicates(KEY_COLUMNS)
    except (ValueError, KeyError) as error:
        problem = f"is not a CSV of ablations ({' '.join(str(error).split())})"
        raise InputError(path, problem, "delete it, or give another --out") from error


def keys(options: AblateOptions, facts: dict[str, str], name: str, variant: Variant) -> Iterator[dict[str, Any]]:
    """Yield the columns that identify each training of a variant."""
    settings = [to_json(variant.recipe), variant.schedule_scale, variant.epochs_without_mixup]
    text = json.dumps(settings, sort_keys=True)
    recipe = {"change": name, "recipe": hashlib.sha256(text.encode()).hexdigest()[:8]}
    for seed in range(options.seeds):
        for fold in range(options.folds):
            yield facts | {"family": options.family} | recipe | {"folds": options.folds, "fold": fold, "seed": seed}


def identity(line: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the values that identify a training."""
    return tuple(str(line[column]) for column in KEY_COLUMNS)


def measure(options: AblateOptions, work: dict[str, Variant], digits: data.Digits) -> "pd.DataFrame":
    """Train what the CSV lacks, append a line to it per training, and return the lines of this command."""
    import pandas as pd

    from jaxnets.devices import choose_devices, default_precision
    from jaxnets.training.parallel import check_batch

    lines, folds = read_lines(options.out), fold_rows(digits.y_train, options.folds)
    num_rows = len(folds[0][0])
    devices = choose_devices(options.devices)
    for variant in work.values():
        check_batch(variant.recipe.training.batch_size, num_rows, devices)
    writable_file(options.out)
    precision = default_precision(devices)
    facts = {"data": options.data, "data_sha256": data.digest(digits)[:8], "precision": precision}
    wanted = {name: list(keys(options, facts, name, variant)) for name, variant in work.items()}
    finished = {identity(line) for line in lines.to_dict("records")}
    for name, variant in work.items():
        missing = [key for key in wanted[name] if identity(key) not in finished]
        train = trainer(variant, digits, num_rows, devices, precision) if missing else None
        for key in missing:
            line = pd.DataFrame([key | measure_fold(train, variant, key, folds[key["fold"]])])
            lines = pd.concat([lines, line]) if len(lines) else line
            with atomic_file(options.out) as draft:
                lines.to_csv(draft, index=False)
    return lines.merge(pd.DataFrame([key for name in work for key in wanted[name]]), on=KEY_COLUMNS)


def measure_fold(
    train: Any, variant: Variant, key: dict[str, Any], rows: tuple[np.ndarray, np.ndarray]
) -> dict[str, int]:
    """Train a variant on one fold and return the other columns of its line."""
    train_rows, valid_rows = rows
    label = f"{key['change']}, fold {key['fold'] + 1} of {key['folds']}, seed {key['seed']}"
    with live_line() as show:

        def on_step(epoch: int, steps: int) -> None:
            show(f"{label}: epoch {epoch + 1}, step {steps}")

        try:
            errors = train(key["seed"], train_rows, valid_rows, on_step)
        except DivergedError as error:
            raise DivergedError(f"{label}: {error}") from error
        show(f"{label}: {errors['errors']} of {len(valid_rows):,} misclassified", keep=True)
    return {"epochs": variant.recipe.training.epochs, "valid_rows": len(valid_rows), **errors}


class Row(NamedTuple):
    """One row of the table: a change's validation error, and its difference from the recipe's on the same folds and
    seeds. The folds share most of their training images, so standard errors are corrected (Nadeau and Bengio 2003)."""

    change: str
    trainings: int
    error: float
    """Mean over the folds, in per cent."""
    error_se: float
    above: float = 0.0
    """Error minus the recipe's error."""
    above_se: float = 0.0
    p: float = math.nan
    """Of a paired t-test, corrected for all changes of the table (Holm 1979)."""


def corrected_standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean of values (k,), one per fold; NaN for a single fold."""
    folds = len(values)
    return float(values.std(ddof=1) * np.sqrt(1 / folds + 1 / (folds - 1))) if folds > 1 else math.nan


def summarise(lines: "pd.DataFrame") -> list[Row]:
    """Return a row per change in the order of the lines, then two rows about the EMA from the recipe's trainings."""
    from scipy.stats import t

    def by_fold(part: "pd.DataFrame", column: str) -> np.ndarray:
        percent = 100 * part[column].astype(float) / part["valid_rows"].astype(float)
        return percent.groupby(part["fold"].astype(int)).mean().to_numpy()

    recipe = lines[lines["change"] == "recipe"]
    base = by_fold(recipe, "errors")
    cases = [(name, lines[lines["change"] == name], "errors") for name in lines["change"].unique()]
    cases += [
        ("averaged weights, live statistics", recipe, "errors_live_statistics"),
        ("last weights", recipe, "errors_last"),
    ]
    rows = []
    for name, part, column in cases:
        errors = by_fold(part, column)
        above = errors - base
        above_se = corrected_standard_error(above)
        row = Row(name, len(part), errors.mean(), corrected_standard_error(errors), above.mean(), above_se)
        if above_se > 1e-9:  # a t-test needs differences that vary
            row = row._replace(p=float(2 * t.sf(abs(row.above) / above_se, len(above) - 1)))
        rows.append(row)
    return holm(rows)


def holm(rows: list[Row]) -> list[Row]:
    """Return the rows with p corrected so that the chance of any false positive among them stays below the level."""
    order = sorted((row.p, index) for index, row in enumerate(rows) if not math.isnan(row.p))
    rows, least = list(rows), 0.0
    for rank, (p, index) in enumerate(order):
        least = max(least, min(1.0, p * (len(order) - rank)))
        rows[index] = rows[index]._replace(p=least)
    return rows


def show(options: AblateOptions, lines: "pd.DataFrame") -> None:
    """Print the table."""
    cells = []
    for row in summarise(lines):
        above = "" if row.change == "recipe" else f"{row.above:+.3f} ± {row.above_se:.3f}"
        p = "" if math.isnan(row.p) else f"{row.p:.3f}"
        cells.append([row.change, f"{row.trainings}", f"{row.error:.3f} ± {row.error_se:.3f}", above, p])
    title = f"{options.family} of {options.preset} on {options.data}: validation error, %, mean ± standard error"
    show_table(title, ["change", "n", "error", "above the recipe", "p"], cells)


def main(options: AblateOptions) -> None:
    check_count("--seeds", options.seeds)
    work = select_variants(options)
    digits = data.load(options.data)
    start_jax(Options())
    show(options, measure(options, work, digits))
    say(f"{options.out}")


if __name__ == "__main__":
    run(main, AblateOptions)
