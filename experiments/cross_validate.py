"""Cross-validation: trains every model of a preset on each fold's complement, and writes out-of-fold log-probabilities
of all labelled rows. Test labels are not read. If interrupted, the same command continues."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.store.manifest import check_manifest, committed_folder, is_up_to_date, manifest_hash

from .cli.console import result
from .cli.job import open_job
from .cli.options import Options, run
from .cli.output_dir import read_settings
from .cli.run_dir import Member, RunDir
from .cluster.parallel_members import is_faster_in_parallel, train_in_parallel
from .predict import predict_member, read_log_probs
from .train import train_member


@dataclass(frozen=True, kw_only=True)
class CrossValidateOptions(Options):
    out: Path = Path("checkpoints/cross-validation")
    """Output directory: fold-K/ with the trained models, oof/ with the out-of-fold predictions, out_of_fold.json with
    their scores, mistakes.csv, and plots of the errors and of the learning curves of the first fold."""
    folds: int = 5
    """Number of stratified folds; each is predicted by models that were trained on the others."""
    against: Path | None = None
    """Output directory of another cross-validation on the same data, to compare with model by model."""
    parallel: Literal["auto", "data", "members"] = "auto"
    """data: train one model after the other, each on all devices. members: train several models at once, each on one
    device or on some of the cores. auto: members for long trainings on a CPU, else data."""


class FoldPrediction(NamedTuple):
    """The predictions of one model for the n rows of a fold, and their manifest's checksum."""

    log_probs: np.ndarray  # (V, n, K)
    identity: str


def main(options: CrossValidateOptions) -> None:
    # These import JAX, which --help does not need.
    from .reporting.learning_curves import save_learning_curves
    from .reporting.out_of_fold import compare_models, report, show_comparison
    from .reporting.report import learning_curves

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
    title = f"{options.folds} folds of {options.data}, {len(labels):,} rows, out-of-fold predictions"
    report(options.out, title, log_probs, digits)
    if other is not None:
        show_comparison(f"{options.out} against {options.against}", compare_models(log_probs, other, labels))
    first = RunDir(options.out / "fold-0")
    panels = learning_curves([first.member(Member.parse(name)) for name in names], len(folds[0][1]))
    save_learning_curves(options.out / "learning_curves.png", panels)
    result(f"{options.out / 'oof'}: out-of-fold predictions of {len(labels):,} rows by {', '.join(names)}")


def predict_fold(options: CrossValidateOptions, digits: data.Digits, number: int) -> dict[str, FoldPrediction]:
    """Train and predict what is missing of one fold, and return its predictions by model."""
    values = {field.name: getattr(options, field.name) for field in fields(Options)}
    values |= {"fold": (number, options.folds), "out": options.out / f"fold-{number}"}
    fold_options = Options(**values)
    with open_job(fold_options, digits, begins=True) as job:
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


if __name__ == "__main__":
    run(main, CrossValidateOptions)
