"""Cross-validation: trains every model of a preset on each fold's complement, and writes out-of-fold log-probabilities
of all labelled rows. Test labels are not read. If interrupted, the same command continues."""

from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np

from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.store.atomic import write_json
from jaxnets.store.manifest import check_manifest, committed_folder, is_up_to_date, manifest_hash

from .cli.console import result, show_table
from .cli.job import open_job
from .cli.options import Options, default, run
from .cli.output_dir import read_settings
from .cli.presets import check_families
from .cli.provenance import command
from .cluster.parallel_members import is_faster_in_parallel, train_in_parallel
from .predict import predict_member, read_log_probs
from .train import train_member

SCORES = "out_of_fold.json"
"""Name of the file with the scores, in the output directory."""


@dataclass(frozen=True, kw_only=True)
class CrossValidateOptions(Options):
    out: Path = Path("checkpoints/cross-validation")
    """Output directory: fold-K/ with the trained models, oof/ with the out-of-fold predictions, out_of_fold.json with
    their scores."""
    folds: int = 5
    """Number of stratified folds; each is predicted by models that were trained on the others."""
    families: Annotated[tuple[str, ...], default("all of the preset")] = ()
    """Families to train."""
    against: Path | None = None
    """Output directory of another cross-validation on the same data, to compare with model by model."""
    parallel: Literal["auto", "data", "members"] = "auto"
    """data: train one model after the other, each on all devices. members: train several models at once, each on one
    device or on some of the cores. auto: members for long trainings on a CPU, else data."""


@dataclass(frozen=True, kw_only=True)
class OutOfFoldScore:
    """How a model, or the ensemble, classifies rows that it was not trained on."""

    model: str
    views: int
    errors: int
    rows: int
    nll: float
    calibration_error: float


class FoldPrediction(NamedTuple):
    """The predictions of one model for the n rows of a fold, and their manifest's checksum."""

    log_probs: np.ndarray  # (V, n, K)
    identity: str


def main(options: CrossValidateOptions) -> None:
    if options.fold is not None:
        raise InputError("--fold", "is chosen by the cross-validation", "leave it out")
    digits = data.load(options.data, options.data_path)._replace(y_test=None)
    labels = digits.y_train
    folds = data.stratified_folds(labels, options.folds)
    other = None if options.against is None else read(options.against, data.digest(digits))
    predictions = [predict_fold(options, digits, number) for number in range(options.folds)]
    names = list(predictions[0])
    order = np.argsort(np.concatenate([valid for _, valid in folds]))
    log_probs = {
        name: np.concatenate([fold[name].log_probs for fold in predictions], axis=1)[:, order] for name in names
    }
    save(options.out / "oof", log_probs, {name: [fold[name].identity for fold in predictions] for name in names})
    scores = score(log_probs, labels)
    write_json(options.out / SCORES, {"command": command(), "scores": [asdict(score) for score in scores]})
    show(options, scores)
    if other is not None:
        show_comparison(options, log_probs, other, labels)
    result(f"{options.out / 'oof'}: out-of-fold predictions of {len(labels):,} rows by {', '.join(names)}")


def predict_fold(options: CrossValidateOptions, digits: data.Digits, number: int) -> dict[str, FoldPrediction]:
    """Train and predict what is missing of one fold, and return its predictions by model."""
    values = {field.name: getattr(options, field.name) for field in fields(Options)}
    values |= {"fold": (number, options.folds), "out": options.out / f"fold-{number}"}
    fold_options = Options(**values)
    check = partial(check_families, families=options.families, option="--families")
    with open_job(fold_options, digits, begins=True, check=check) as job:
        if options.families:
            recipes = tuple(job.preset.recipe(family) for family in options.families)
            job = replace(job, preset=replace(job.preset, recipes=recipes))
        members = job.teachers()
        if options.parallel == "members" or (options.parallel == "auto" and is_faster_in_parallel(job)):
            train_in_parallel(job, fold_options, members)
        for member in members:
            train_member(job, member)
            predict_member(job, member)
        log_probs = read_log_probs(job, members)["valid"]
        return {
            member.name: FoldPrediction(array, manifest_hash(job.run_dir.predictions(member)))
            for member, array in zip(members, log_probs, strict=True)
        }


def save(folder: Path, log_probs: dict[str, np.ndarray], made_from: dict[str, list[str]]) -> None:
    """Write NAME.npz with `log_probs` (V, N, K) for every model, unless they are up to date."""
    if not is_up_to_date(folder, made_from):
        with committed_folder(folder, made_from) as temporary:
            for name, array in log_probs.items():
                np.savez(temporary / f"{name}.npz", log_probs=array)


def read(out: Path, data_sha256: str) -> dict[str, np.ndarray]:
    """Return the out-of-fold predictions (V, N, K) by model in the output directory `out` of a cross-validation.

    Raises InputError if they are missing, damaged or of other data.
    """
    folder = out / "oof"
    if not folder.is_dir():
        raise InputError(folder, "is missing", "name the --out of a finished cross-validation")
    check_manifest(folder)
    if read_settings(out / "fold-0").get("data_sha256") != data_sha256:
        raise InputError(out, "is a cross-validation on other data", "use the same --data")
    return {path.stem: np.load(path, allow_pickle=False)["log_probs"] for path in sorted(folder.glob("*.npz"))}


def score(log_probs: dict[str, np.ndarray], labels: np.ndarray) -> list[OutOfFoldScore]:
    """Score every model and their ensemble on all N labelled rows, with one view and with all."""
    from jaxnets.inference.calibrate import calibration_error
    from jaxnets.inference.ensemble import nll

    return [
        OutOfFoldScore(
            model=name,
            views=views,
            errors=int((mean.argmax(axis=-1) != labels).sum()),
            rows=len(labels),
            nll=nll(mean, labels),
            calibration_error=calibration_error(mean, labels),
        )
        for name, means in combined(log_probs).items()
        for views, mean in means.items()
    ]


def show(options: CrossValidateOptions, scores: list[OutOfFoldScore]) -> None:
    """Print the scores of every model and of their ensemble."""
    rows = [
        [
            score.model,
            f"{score.views}",
            f"{score.errors}",
            f"{score.errors / score.rows:.3%}",
            f"{score.nll:.4f}",
            f"{score.calibration_error:.3%}",
        ]
        for score in scores
    ]
    title = f"{options.folds} folds of {options.data}, {scores[0].rows:,} rows, out-of-fold predictions"
    show_table(title, ["model", "views", "errors", "error rate", "NLL", "calibration error"], rows)


def combined(log_probs: dict[str, np.ndarray]) -> dict[str, dict[int, np.ndarray]]:
    """log_probs (V, N, K) by model -> the log of mean probabilities (N, K), by model and by the number of views.

    The numbers are 1 and, if there are more views, V. With several models, `ensemble` is added.
    """
    from jaxnets.inference.ensemble import combine

    views = sorted({1, *(len(array) for array in log_probs.values())})
    means = {name: {v: combine(array[:v]) for v in views} for name, array in log_probs.items()}
    if len(means) > 1:
        means["ensemble"] = {v: combine(np.stack([mean[v] for mean in means.values()])) for v in views}
    return means


def show_comparison(
    options: CrossValidateOptions, log_probs: dict[str, np.ndarray], other: dict[str, np.ndarray], labels: np.ndarray
) -> None:
    """Print how every model, and the ensemble of the common ones, differs from the other cross-validation."""
    from jaxnets.inference.compare import compare

    names = sorted(log_probs.keys() & other.keys())
    if not names:
        raise InputError(f"{options.against}", f"has other models: {', '.join(other)}", "compare the same families")
    means = combined({name: log_probs[name] for name in names})
    other_means = combined({name: other[name] for name in names})
    rows = []
    for name in means:
        comparison = compare(means[name][1], other_means[name][1], labels)
        difference = f"{comparison.nll_difference:+.5f} ± {comparison.nll_standard_error:.5f}"
        counts = [f"{comparison.only_first}", f"{comparison.only_second}"]
        rows.append([name, *counts, f"{comparison.p_value:.3f}", difference])
    title = f"{options.out} against {options.against}: rows that only one classifies wrongly, McNemar's p, NLL"
    show_table(title, ["model", "only here", "only there", "p", "NLL difference"], rows)


if __name__ == "__main__":
    run(main, CrossValidateOptions)
