"""Selects the test images on which the trained models agree, and gives them soft labels to train the students with."""

import numpy as np

from jaxnets import data
from jaxnets.errors import InputError
from jaxnets.store.atomic import read_json, write_json
from jaxnets.store.manifest import is_up_to_date, manifest_hash

from .cli.console import result
from .cli.job import Job, compute, open_job
from .cli.options import Options, run
from .predict import read_log_probs
from .reporting.metrics import mean_over_views


def choose_pseudo_labels(job: Job) -> None:
    """Write pseudo_labels/: selected.npz with `rows`, `targets` and `weights`, and summary.json.

    It is kept as long as the teachers are the same. If they predicted again elsewhere, the last bits could differ, and
    students that were trained on the old labels would not match the new ones. Raises InputError if no rows are held
    out.
    """
    if not len(job.data.valid_rows):
        problem = f"preset {job.preset.name} holds out no rows to calibrate the ensemble on"
        raise InputError("pseudo-labels", problem, "hold out a fold with --fold")
    folder = job.run_dir.pseudo_labels
    made_from = {"teachers": [manifest_hash(job.run_dir.member(teacher)) for teacher in job.teachers()]}
    if is_up_to_date(folder, made_from):
        return
    from jaxnets.inference.calibrate import fit_temperature
    from jaxnets.inference.ensemble import combine
    from jaxnets.inference.pseudo_label import select

    selection = job.preset.selection
    with compute(job, "pseudo_labels", folder, made_from) as temporary:
        log_probs = read_log_probs(job, job.teachers())
        temperature = fit_temperature(combine(mean_over_views(log_probs["valid"])), job.data.valid_labels)
        selected = select(mean_over_views(log_probs["test"]), temperature, selection)
        weights = np.full(len(selected.rows), selection.weight, np.float32)
        np.savez(temporary / "selected.npz", rows=selected.rows, targets=selected.targets, weights=weights)
        summary = {
            "selected": len(selected.rows),
            "of": len(job.data.digits.x_test),
            "threshold": selection.threshold,
            "agreement": selected.agreement,
            "temperature": temperature,
        }
        write_json(temporary / "summary.json", summary)


def main(options: Options) -> None:
    with open_job(options, data.load(options.data, options.data_path)) as job:
        choose_pseudo_labels(job)
    summary = read_json(job.run_dir.pseudo_labels / "summary.json")
    count = f"{summary['selected']:,} of {summary['of']:,}"
    result(f"{count} test images get a pseudo-label, with a probability of at least {summary['threshold']:.0%}")


if __name__ == "__main__":
    run(main, Options)
