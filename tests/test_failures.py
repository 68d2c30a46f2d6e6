import csv

import numpy as np
import pytest

from experiments.reporting.error_analysis import write_mistakes
from jaxnets.failures import disagreement, draw_missed, draw_reliability, subset_errors


@pytest.fixture
def members():
    """Log-probabilities (4, 6, 3) of networks whose answers are known: the first has all right, the others less."""
    answers = np.array([[0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 0], [0, 1, 2, 0, 0, 0], [1, 2, 0, 1, 2, 0]])
    return np.log(0.1 + 0.7 * np.eye(3)[answers])


LABELS = np.array([0, 1, 2, 0, 1, 2])


def test_disagreement_counts_different_answers_and_errors(members):
    counts = disagreement(members, LABELS)
    np.testing.assert_array_equal(counts, [[0, 1, 2, 6], [1, 1, 1, 5], [2, 1, 2, 5], [6, 5, 5, 6]])


def test_errors_of_every_choice_of_networks(members):
    errors = subset_errors(members, LABELS)
    assert errors[0] == [0, 1, 2, 6]
    assert [len(counts) for counts in errors] == [4, 6, 4, 1]
    assert errors[2][0] == 1  # the first three: two of them are wrong on the last image


def test_of_many_choices_a_fixed_part_is_drawn(members):
    many = np.concatenate([members] * 3)
    errors = subset_errors(many, LABELS, most=20)
    assert max(map(len, errors)) == 20
    assert errors == subset_errors(many, LABELS, most=20)


def test_no_network_takes_a_columns_place(members, tmp_path):
    names = ["resnet-0", "label", "answer", "row"]
    write_mistakes(tmp_path / "mistakes.csv", names, LABELS, members, members[3])
    with (tmp_path / "mistakes.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["row", "label", "answer", "probability", "resnet-0", "./label", "./answer", "./row"]
    assert [line[:3] + line[4:] for line in lines][4] == ["4", "1", "2", "1", "1", "0", "2"]


def test_a_picture_has_room_for_any_number_of_mistakes(tmp_path):
    rng = np.random.default_rng(0)
    log_probs = np.log(rng.dirichlet(np.ones(10), (2, 200)))
    labels = np.zeros(200, int)
    images = rng.integers(0, 256, (200, 8, 8), np.uint8)
    for number, count in enumerate((200, 0)):
        answer = log_probs[0] if count else np.log(np.eye(10)[labels] + 0.01)
        draw_missed(tmp_path / f"{number}.png", images, labels, log_probs, answer, {3, 5})
    assert (tmp_path / "0.png").stat().st_size > (tmp_path / "1.png").stat().st_size > 1000


def test_reliability_is_drawn_where_all_is_certain(tmp_path):
    certain = np.log(np.eye(10)[np.arange(10)] + 1e-9)
    draw_reliability(tmp_path / "reliability.png", certain, np.arange(10), 2.0)
    assert (tmp_path / "reliability.png").stat().st_size > 1000
