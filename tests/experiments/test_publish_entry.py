import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments.cli.run_dir import Member
from experiments.reporting.out_of_fold import SCORES
from experiments.tools.publish_entry import PublishEntryOptions, main, rebuild
from jaxnets.errors import InputError
from jaxnets.store.atomic import read_json, write_json
from jaxnets.store.manifest import check_manifest, write_manifest
from tests.experiments.processes import read_submission

ENTRY = Path(__file__).parents[2] / "checkpoints" / "kaggle"


def test_the_submission_can_be_rebuilt_from_the_predictions_of_the_models(whole, tmp_path):
    main(PublishEntryOptions(job=whole, out=tmp_path / "entry"))
    check_manifest(tmp_path / "entry")
    with np.load(tmp_path / "entry" / "log_probs.npz") as file:
        log_probs = dict(file)
    names = {
        Member(family=member["family"], seed=member["seed"], student=member["student"]).name
        for member in read_json(whole / "report.json")["members"]
    }
    assert log_probs.keys() == names
    assert {array.dtype for array in log_probs.values()} == {np.dtype(np.float16)}
    submission = read_submission(tmp_path / "entry" / "submission.csv")
    np.testing.assert_array_equal(rebuild(log_probs), submission)
    np.testing.assert_array_equal(submission, read_submission(whole / "submission.csv"))
    assert read_json(tmp_path / "entry" / "recipe.json") == read_json(whole / "job.json")


def test_a_submission_that_is_not_the_mean_of_its_models_is_refused(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "job")
    summary = read_json(tmp_path / "job" / "ensemble" / "summary.json")
    made_from = check_manifest(tmp_path / "job" / "ensemble")
    write_json(tmp_path / "job" / "ensemble" / "summary.json", summary | {"weights": [0.0] * 5 + [1.0]})
    write_manifest(tmp_path / "job" / "ensemble", made_from)
    with pytest.raises(InputError, match="weights its models differently"):
        main(PublishEntryOptions(job=tmp_path / "job", out=tmp_path / "entry"))
    assert not (tmp_path / "entry").exists()


def test_the_scores_are_those_of_a_cross_validation_of_the_same_recipes(whole, tmp_path):
    settings, crossed = read_json(whole / "job.json"), tmp_path / "crossed"
    (crossed / "fold-0").mkdir(parents=True)
    write_json(crossed / SCORES, {"scores": []})
    write_json(crossed / "fold-0" / "job.json", settings | {"fold": [0, 5]})
    options = PublishEntryOptions(job=whole, cross_validation=crossed, out=tmp_path / "entry")
    main(options)
    assert read_json(tmp_path / "entry" / SCORES) == {"scores": []}
    write_json(crossed / "fold-0" / "job.json", settings | {"precision": "other"})
    with pytest.raises(InputError, match="other recipes, data or precision"):
        main(options)


def test_the_entry_in_the_repository_can_be_rebuilt():
    check_manifest(ENTRY)
    with np.load(ENTRY / "log_probs.npz") as file:
        classes = rebuild(dict(file))
    np.testing.assert_array_equal(classes, read_submission(ENTRY / "submission.csv"))
    assert len(classes) == 28_000
    assert sum(path.stat().st_size for path in ENTRY.iterdir()) < 10 * 2**20
