"""Cross-validation: trains every model of a preset on each fold's complement, and leaves out-of-fold log-probabilities
of all labelled rows. Test labels are not read. If interrupted, the same command continues."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from experiments.cli.console import result, show_table
from experiments.cli.options import Options, run
from experiments.cli.output_dir import Job, check_families, open_job, read_settings
from experiments.cluster.parallel_members import is_faster_in_parallel, train_in_parallel
from experiments.predict import predict_member, predictions, read_log_probs
from experiments.train import train_member
from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.store.manifest import check, identity, is_up_to_date, sealed_folder


@dataclass(frozen=True, kw_only=True)
class CrossValidateOptions(Options):
    out: Path = Path("checkpoints/cross-validation")
    """Directory of the results: fold-K/ with the trained models, oof/ with the out-of-fold predictions."""
    folds: int = 5
    """Number of stratified folds; each is predicted by models trained on the others."""
    families: tuple[str, ...] = ()
    """Families to train: all of the preset unless given."""
    against: Path | None = None
    """Directory of another cross-validation on the same data, to compare with in pairs."""
    parallel: Literal["auto", "data", "members"] = "auto"
    """data: one model after the other on all devices. members: several at once, each on one device or some cores.
    auto: members if trainings are long and the devices are a CPU's cores."""


def main(options: CrossValidateOptions) -> None:
    if options.fold is not None:
        raise InputError("--fold", "is chosen by the cross-validation", "leave it out")
    digits = data.load(options.data, options.data_path)._replace(y_test=None)
    labels = digits.y_train
    folds = data.stratified_folds(labels, options.folds)
    other = None if options.against is None else read(options.against, data.digest(digits))
    parts = [out_of_fold(options, number) for number in range(options.folds)]
    names = list(parts[0])
    order = np.argsort(np.concatenate([valid for _, valid in folds]))
    log_probs = {name: np.concatenate([part[name][0] for part in parts], axis=1)[:, order] for name in names}
    made_from = {name: [part[name][1] for part in parts] for name in names}
    save(options.out / "oof", log_probs, made_from)
    show(options, log_probs, labels)
    if other is not None:
        show_comparison(options, log_probs, other, labels)
    result(f"{options.out / 'oof'}: out-of-fold predictions of {len(labels):,} rows by {', '.join(names)}")


def out_of_fold(options: CrossValidateOptions, number: int) -> dict[str, tuple[np.ndarray, str]]:
    """Trains and predicts what is missing of one fold -> log_probs (V, n, K) of its rows, and the identity of those
    predictions, by model."""
    known = {one.name: getattr(options, one.name) for one in fields(Options)}
    given = Options(**known | {"fold": (number, options.folds), "out": options.out / f"fold-{number}"})
    check = partial(check_families, families=options.families, option="--families")
    with open_job(given, begins=True, check=check) as job:
        if options.families:
            recipes = tuple(job.preset.recipe(family) for family in options.families)
            job = job._replace(preset=replace(job.preset, recipes=recipes))
        models = job.teachers()
        if options.parallel == "members" or (options.parallel == "auto" and is_faster_in_parallel(job)):
            train_in_parallel(job, given, models)
        for folder, (family, seed) in zip(models, members(job), strict=True):
            train_member(job, folder, family, seed)
            predict_member(job, folder)
        valid = read_log_probs(job, models)["valid"]
        return {
            folder.name: (log_probs, identity(predictions(job, folder)))
            for folder, log_probs in zip(models, valid, strict=True)
        }


def members(job: Job) -> Iterator[tuple[str, int]]:
    """The family and the seed of each of a job's models, in the order of its directories."""
    for seed in range(job.seed, job.seed + job.preset.seeds):
        for recipe in job.preset.recipes:
            yield recipe.family, seed


def save(folder: Path, log_probs: dict[str, np.ndarray], made_from: dict[str, list[str]]) -> None:
    """Leaves NAME.npz with `log_probs` (V, N, K) of every model in a sealed directory."""
    if not is_up_to_date(folder, made_from):
        with sealed_folder(folder, made_from) as draft:
            for name, array in log_probs.items():
                np.savez(draft / f"{name}.npz", log_probs=array)


def read(out: Path, data_sha256: str) -> dict[str, np.ndarray]:
    """The out-of-fold predictions (V, N, K) by model that a cross-validation left in the directory `out`.

    Raises InputError if they are missing, damaged or of other data.
    """
    folder = out / "oof"
    if not folder.is_dir():
        raise InputError(folder, "is missing", "name the --out of a finished cross-validation")
    check(folder)
    if read_settings(out / "fold-0").get("data_sha256") != data_sha256:
        raise InputError(out, "is a cross-validation on other data", "use the same --data")
    return {path.stem: np.load(path, allow_pickle=False)["log_probs"] for path in sorted(folder.glob("*.npz"))}


def show(options: CrossValidateOptions, log_probs: dict[str, np.ndarray], labels: np.ndarray) -> None:
    """Prints errors, NLL and calibration error of every model and of their ensemble, per set of views."""
    from jaxnets.inference.calibrate import calibration_error
    from jaxnets.inference.ensemble import nll

    rows = []
    for name, views in combined(log_probs).items():
        for number, mean in views.items():
            errors = int((mean.argmax(axis=-1) != labels).sum())
            percent, calibration = f"{errors / len(labels):.3%}", f"{calibration_error(mean, labels):.3%}"
            rows.append([name, f"{number}", f"{errors}", percent, f"{nll(mean, labels):.4f}", calibration])
    title = f"{options.folds} folds of {options.data}, {len(labels):,} rows, out-of-fold predictions"
    show_table(title, ["model", "views", "errors", "error rate", "NLL", "calibration error"], rows)


def combined(log_probs: dict[str, np.ndarray]) -> dict[str, dict[int, np.ndarray]]:
    """log_probs (V, N, K) by model -> the log of mean probabilities (N, K), by model and for their ensemble, by the
    number of views: the image alone, and all V if there are more."""
    from jaxnets.inference.ensemble import combine

    views = sorted({1, *(len(array) for array in log_probs.values())})
    means = {name: {v: combine(array[:v]) for v in views} for name, array in log_probs.items()}
    if len(means) > 1:
        means["ensemble"] = {v: combine(np.stack([one[v] for one in means.values()])) for v in views}
    return means


def show_comparison(
    options: CrossValidateOptions, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], labels: np.ndarray
) -> None:
    from jaxnets.inference.compare import compare

    common = sorted(ours.keys() & theirs.keys())
    if not common:
        raise InputError(f"{options.against}", f"has other models: {', '.join(theirs)}", "compare the same families")
    first, second = (combined({name: arrays[name] for name in common}) for arrays in (ours, theirs))
    rows = []
    for name in first:
        one = compare(first[name][1], second[name][1], labels)
        difference = f"{one.nll_difference:+.5f} ± {one.nll_standard_error:.5f}"
        rows.append([name, f"{one.only_first}", f"{one.only_second}", f"{one.p_value:.3f}", difference])
    title = f"{options.out} against {options.against}: rows that only one classifies wrongly, McNemar's p, NLL"
    show_table(title, ["model", "only here", "only there", "p", "NLL difference"], rows)


if __name__ == "__main__":
    run(main, CrossValidateOptions)
