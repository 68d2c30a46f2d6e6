import numpy as np
import pytest

from experiments.cli.run_dir import Member
from experiments.predict import describe_accuracy
from experiments.reporting.metrics import EnsembleMetrics, MemberMetrics, Report, show

MEMBER = {"family": "senet", "seed": 0, "student": False, "parameters": 7, "epochs": 2, "images_per_second": 9.0}
TIMES = {"train_seconds": 3.0, "compile_seconds": 1.0}


def report(valid, views):
    """A report of one model, with this validation accuracy and this number of views."""
    accuracies = {"valid_accuracy": valid, "tta_valid_accuracy": valid}
    member = MemberMetrics(**MEMBER, **TIMES, **accuracies, test_accuracy=0.5, tta_test_accuracy=0.5)
    ensemble = EnsembleMetrics(
        members=["senet-0"], fitted_weights=False, weights=[1.0], **accuracies, test_accuracy=0.5
    )
    names = {"data": "digits", "preset": "smoke", "precision": "float32", "device": "cpu", "jax_version": "0"}
    counts = {"train_rows": 9, "valid_rows": 0, "test_rows": 4, "trained_rows_scored": 0, "views": views}
    origin = {"versions": {}, "command": "python", "total_seconds": 4.0}
    return Report(**names, **counts, **origin, members=[member], ensemble=ensemble)


@pytest.mark.parametrize("member", [Member("resnet", 0), Member("vit-tiny", 12), Member("vit-tiny", 3, student=True)])
def test_members_are_parsed_from_their_names(member):
    assert Member.parse(member.name) == member


def test_a_report_survives_json():
    assert Report.from_json(report(0.9, 3).to_json()) == report(0.9, 3)


@pytest.mark.parametrize(
    ("valid", "views", "columns"),
    [
        (0.9, 3, ["valid", "valid, 3 views", "test, 3 views"]),
        (0.9, 1, ["valid", "test"]),
        (None, 1, ["test"]),
    ],
)
def test_the_table_has_no_empty_and_no_double_columns(monkeypatch, valid, views, columns):
    shown = []
    monkeypatch.setattr("experiments.reporting.metrics.show_table", lambda title, *table: shown.extend(table))
    show(report(valid, views))
    assert shown[0] == ["model", "parameters", *columns, "training"]
    assert {len(row) for row in shown[1]} == {len(shown[0])}


@pytest.mark.parametrize(
    ("views", "rows", "text"),
    [(2, 1, "  valid 100.00%, with 2 views 0.00%"), (1, 1, "  valid 100.00%"), (2, 0, "")],
)
def test_predictions_are_described_by_the_accuracies_that_exist(views, rows, text):
    log_probs = np.log([[[0.6, 0.4]], [[0.1, 0.9]]])[:views, :rows]
    assert describe_accuracy(log_probs, np.zeros(rows, int)) == text
