"""Publishes a competition entry: the submission, and what it takes to rebuild it without training.

The directory has `submission.csv`; `log_probs.npz` with the predictions of every model for the test images, float16
(N, K), by the model's name; `recipe.json` with the settings of the run and the environments that computed it; and, if
the recipes were cross-validated, `out_of_fold.json` with the scores.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.errors import InputError
from jaxnets.inference.ensemble import combine
from jaxnets.store.atomic import read_json, write_json
from jaxnets.store.manifest import check_manifest, committed_folder, manifest_hash

from ..cli.console import result
from ..cli.options import run
from ..cli.output_dir import read_settings
from ..cli.run_dir import Member, RunDir
from ..ensemble import read_ensemble
from ..reporting.out_of_fold import SCORES


@dataclass(frozen=True, kw_only=True)
class PublishEntryOptions:
    job: Path
    """Output directory of a finished pipeline."""
    cross_validation: Path | None = None
    """Output directory of a finished cross-validation with the same recipes."""
    out: Path = Path("checkpoints/kaggle")
    """New directory for the entry."""


def member_log_probs(job: Path) -> dict[str, Any]:
    """Return the mean predictions over all views, float16 (N, K), by member of the run's ensemble.

    Raises InputError if the ensemble is missing or damaged, or weights its members differently.
    """
    summary = read_ensemble(job)
    if len(set(summary.weights)) > 1:
        raise InputError(job / "ensemble", "weights its models differently", "make it without --fit-weights")
    arrays: dict[str, Any] = {}
    for name in summary.members:
        folder = RunDir(job).predictions(Member.parse(name))
        check_manifest(folder)
        with np.load(folder / "test.npz", allow_pickle=False) as file:
            arrays[name] = combine(file["log_probs"]).astype(np.float16)
    return arrays


def rebuild(log_probs: dict[str, np.ndarray]) -> np.ndarray:
    """Return the classes (N,) that the members predict together, from `log_probs` (N, K) by member."""
    return combine(np.stack(list(log_probs.values())).astype(np.float32)).argmax(axis=-1)


def read_scores(cross_validation: Path, job: Path) -> dict[str, Any]:
    """Return the scores of a cross-validation of the run's recipes.

    Raises InputError if there are none, or if it had other recipes, other data or another precision.
    """
    mine, other = read_settings(job), read_settings(cross_validation / "fold-0")
    same = mine["preset"]["recipes"] == other["preset"]["recipes"]
    if not same or any(mine[name] != other[name] for name in ("data_sha256", "precision")):
        fix = "cross-validate the recipes of the run"
        raise InputError(cross_validation, f"has other recipes, data or precision than {job}", fix)
    return read_json(cross_validation / SCORES, "name the output directory of a finished cross-validation")


def main(options: PublishEntryOptions) -> None:
    job = RunDir(options.job)
    log_probs = member_log_probs(job.path)
    scores = read_scores(options.cross_validation, job.path) if options.cross_validation else None
    with np.load(job.ensemble / "log_probs_test.npz", allow_pickle=False) as file:
        submitted = file["log_probs"].argmax(axis=-1)
    if not np.array_equal(rebuild(log_probs), submitted):
        raise InputError(job.ensemble, "predicts other classes from float16", "publish it by hand")
    with committed_folder(options.out, {"ensemble": manifest_hash(job.ensemble)}) as folder:
        np.savez_compressed(folder / "log_probs.npz", **log_probs)
        shutil.copyfile(job.ensemble / "submission.csv", folder / "submission.csv")
        write_json(folder / "recipe.json", read_json(job.settings))
        if scores:
            write_json(folder / SCORES, scores)
    size = sum(path.stat().st_size for path in options.out.iterdir()) / 2**20
    result(f"{options.out}: {len(log_probs)} models, {size:.1f} MiB")


if __name__ == "__main__":
    run(main, PublishEntryOptions)
