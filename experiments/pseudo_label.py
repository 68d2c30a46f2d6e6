"""Chooses the test images that the trained networks agree on, and gives them soft labels for the students to learn."""

import numpy as np

from experiments.cli.console import result
from experiments.cli.options import Options, run
from experiments.cli.output_dir import Job, compute, open_job
from experiments.predict import read_log_probs
from experiments.reporting.metrics import mean_over_views
from jaxnets.errors import InputError
from jaxnets.store.atomic import read_json, write_json
from jaxnets.store.manifest import identity, is_up_to_date


def choose_pseudo_labels(job: Job) -> None:
    """Leaves the folder pseudo_labels/ with selected.npz (rows, targets, weights) and summary.json.

    It is kept as long as the teachers are the same: were they to predict again elsewhere, the last bits could differ,
    and students that learnt the old labels would not fit the new ones. InputError if no rows are held out.
    """
    if not len(job.valid_rows):
        problem = f"preset {job.preset.name} holds out no rows to calibrate the ensemble on"
        raise InputError("pseudo-labels", problem, "hold out a fold with --fold")
    folder = job.out / "pseudo_labels"
    origin = {"teachers": [identity(teacher) for teacher in job.teachers()]}
    if is_up_to_date(folder, origin):
        return
    from jaxnets.inference.calibrate import fit_temperature
    from jaxnets.inference.ensemble import combine
    from jaxnets.inference.pseudo_label import select

    with compute(job, "pseudo_labels", folder, origin) as draft:
        answers = read_log_probs(job, job.teachers())
        valid, test = map(mean_over_views, answers.values())
        temperature = fit_temperature(combine(valid), job.valid_labels())
        chosen = select(test, temperature, job.preset.selection)
        weights = np.full(len(chosen.rows), job.preset.selection.weight, np.float32)
        summary = {
            "selected": len(chosen.rows),
            "of": len(job.digits.x_test),
            "threshold": job.preset.selection.threshold,
            "agreement": chosen.agreement,
            "temperature": temperature,
        }
        np.savez(draft / "selected.npz", rows=chosen.rows, targets=chosen.targets, weights=weights)
        write_json(draft / "summary.json", summary)


def main(options: Options) -> None:
    with open_job(options) as job:
        choose_pseudo_labels(job)
    summary = read_json(job.out / "pseudo_labels" / "summary.json")
    result(f"{summary['selected']:,} of {summary['of']:,} test images are surer than {summary['threshold']:.0%}")


if __name__ == "__main__":
    run(main, Options)
