"""Builds, writes and reads the report of an evaluation: report.json, report.html and the plots of errors."""

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnets import data
from jaxnets.config import PseudoLabelConfig
from jaxnets.errors import InputError
from jaxnets.store.atomic import read_json, write_json
from jaxnets.store.manifest import checksum_of

from ..cli.provenance import command, versions
from ..cli.run_dir import RunDir
from .metrics import EnsembleSummary, Predictions, Report, add_test, measure_member

if TYPE_CHECKING:
    from jaxnets.devices import Devices


def make_report(
    predictions: Predictions,
    summary: EnsembleSummary,
    digits: data.Digits,
    devices: "Devices",
    begin: float,
    **fields: Any,
) -> Report:
    """Return the report of an ensemble, with these other fields."""
    import jax

    return Report(
        data=digits.name,
        device=f"{len(devices)} x {devices[0].device_kind}",
        jax_version=jax.__version__,
        versions=versions(),
        valid_rows=len(predictions.valid_labels),
        test_rows=len(digits.x_test),
        trained_rows_scored=predictions.trained_rows,
        views=predictions.test.shape[1],
        members=[measure_member(predictions, number) for number in range(len(predictions.folders))],
        ensemble=add_test(summary, predictions),
        command=command(),
        total_seconds=time.perf_counter() - begin,
        **fields,
    )


def write_reports(
    out: Path,
    report: Report,
    predictions: Predictions,
    digits: data.Digits,
    valid_rows: np.ndarray,
    selection: PseudoLabelConfig | None = None,
) -> None:
    """Write report.html, if there are labels to compare with, and then report.json: a current one has a current page.

    `selection` is how pseudo-labels were selected, if there are any.
    """
    from .report import write_report

    content = report.to_json()
    if report.valid_rows or report.ensemble.test_accuracy is not None:
        write_report(out, content, predictions, digits, valid_rows, selection)
    write_json(RunDir(out).report, content | {"sha256": checksum_of(content)})


def read_report(path: Path) -> dict[str, Any]:
    """Return the JSON object in a report.json. Raises InputError if it is missing, damaged or was changed."""
    report = read_json(path)
    if report.pop("sha256", None) != checksum_of(report):
        raise InputError(path, "was changed after it was written", "delete it, and run the program that wrote it again")
    return report


def previous_report(path: Path) -> Report | None:
    """Return the report at `path`; None if it is missing, damaged, or not of the present format."""
    with suppress(InputError, TypeError, KeyError):
        return Report.from_json(read_report(path))
    return None
