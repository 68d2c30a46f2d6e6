"""The invalid inputs and random changes of `tests.faults`, in this process."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxnets.config import to_json
from jaxnets.errors import InputError
from jaxnets.recipes import smoke
from jaxnets.runs import RunConfig, outline, read_config
from tests.faults import cases, inputs, mutate
from tests.faults.__main__ import PROTOCOLS
from tests.faults.entries import LINE, listing

LARGE = ("bomb", "too large", "other pixels", "1,000")
SMALL = [name for name in cases.ENTRANCES if not name.startswith("config") and not any(word in name for word in LARGE)]
CONFIG = to_json(
    RunConfig(
        recipe=smoke().recipe("wide_cnn"),
        **{"seed": 0, "precision": "float32", "image_shape": (8, 8, 1), "num_classes": 10},
        **{"data": "digits", "data_sha256": ""},
    )
)


WORDS = {
    "train.csv": {
        **dict.fromkeys(inputs.FIELDS, "train.csv:9: pixel5 is "),
        **{name: "train.csv:9: label is " for name in inputs.CSV if name.startswith("label '")},
        "empty": "train.csv: is empty",
        "blank lines only": "train.csv: is empty",
        "a header only": "has a header and no rows",
        "no header": "train.csv:1: has no header",
        "truncated in a row": "train.csv:31: has ",
        "a short row": "train.csv:2: has 784 columns, expected 785",
        "a long row": "train.csv:2: has 786 columns, expected 785",
        "an empty line": "train.csv:3: the line is empty",
        "label column last": "in another order: column 1 is pixel0, expected label",
        "pixels in another order": "in another order: column 2 is pixel783, expected pixel0",
        "a duplicate column": "train.csv:1: has a duplicate column 'pixel5'",
        "an extra column": "train.csv:1: has an extra column 'ImageId'",
        "images of 14 x 14": "has no column pixel196 (196 pixel columns, expected 784 for images of 28 x 28)",
        "a class with one example": "train.csv: has a single example of class",
        "two files joined": "train.csv:32: a second header: two files are joined",
        "semicolons": "train.csv:1: columns are not separated by commas",
        "tabs": "train.csv:1: columns are not separated by commas",
        "UTF-16": "train.csv: is UTF-16 text",
        "UTF-16 without a mark": "train.csv: is UTF-16 text",
        "NUL bytes": "has a NUL byte: the file is damaged",
        "a web page": "train.csv: looks like a web page. Fix: sign in to Kaggle",
        "the test table": "train.csv:1: has no label column: train.csv and test.csv look swapped",
        "a zip named csv": "train.csv: is a zip archive, not a CSV file",
        "truncated gzip": "train.csv: is a truncated gzip file",
        "gzip with another checksum": "train.csv: is a damaged gzip file",
    },
    "idx": {
        **dict.fromkeys(
            ("a wrong magic number", "labels instead of images", "little-endian", "floating point", "a web page"),
            "expected the magic number 0x00000803",
        ),
        "empty": "train-images-idx3-ubyte: is empty",
        "truncated in its header": "is truncated in its header, after 9 bytes",
        "truncated in its data": "is truncated: 1,016 bytes",
        "one extra byte": "has 1 bytes after the last value",
        "no images": "has shape 0 x 28 x 28, expected 60000 x 28 x 28",
        "2**32 - 1 images": "has shape 4294967295 x 28 x 28",
        "images of 14 x 56": "has shape 60000 x 14 x 56",
        "65536**3 values": "has shape 65536 x 65536 x 65536",
        "truncated gzip": "is a truncated gzip file",
        "gzip with another checksum": "is a damaged gzip file",
        "gzip and garbage": "has bytes after the end of the gzip stream",
    },
    "npz": {
        **dict.fromkeys(
            (
                "empty",
                "not a zip",
                "a bare pickle",
                "truncated",
                "one damaged byte",
                "a shape that overflows",
                "no header",
            ),
            "my.npz: is not a zip archive, or is damaged",
        ),
        "no x_test": "my.npz: has no array y_train",
        "floats in [0, 1]": "x_train: has dtype float64, expected integers. Fix: store uint8 in 0..255, after",
        "NaN": "x_test: has dtype float64",
        "flat images": "x_train: has shape (20, 64). Fix: store (N, H, W)",
        "images too small": "x_train: has shape (20, 7, 8). Fix: store (N, H, W) or (N, H, W, C) with",
        "two channels": "x_train: has shape (20, 8, 8, 2)",
        "test images of another size": "x_test: has images of shape (9, 9, 1), the training images are (8, 8, 1)",
        "no test images": "x_test: has no images",
        "pixel 256": "x_train: row 5 has values from 0 to 256, not in 0..255",
        "pixel -1": "x_test: row 2 has values from -1 to ",
        "too few labels": "y_train: has shape (7,) for 20 images",
        "two-dimensional labels": "y_train: has shape (20, 1)",
        "float labels": "y_train: has dtype float64, expected integers",
        "text labels": "expected integers. Fix: number the classes from 0",
        "a negative label": "y_train: row 3 is -1, a negative class",
        "a missing class": "y_train: has no example of class 2",
        "a class with one example": "y_train: has a single example of class 2",
        "a single class": "y_train: has a single class",
        "a test label without training images": "y_test: row 1 is 3, a class without training images",
        "Python objects": "x_train: holds Python objects, which are not loaded",
        "a header that claims 8 TB": "x_train: claims to be (8796093022208,)",
        "a header that claims less": "x_train: claims to be (1,)",
        "a header with a negative shape": "x_train: claims to be (-1, -2)",
        "a malformed header": "x_train: has a damaged header",
        "a deeply nested header": "x_train: has a damaged header",
        "a member with a path": "has a member with a path, '../x_train.npy'",
    },
    "Kaggle's zip": {
        "truncated zip": "my.zip: is not a zip archive, or is damaged",
        "zip without test.csv": "my.zip: has no member test.csv",
        "zip with its tables swapped": "my.zip/train.csv:1: has no label column: train.csv and test.csv look swapped",
        "a table named zip": "my.zip: is not a zip archive. Fix: name digit-recognizer.zip",
        "a web page named zip": "my.zip: looks like a web page",
    },
}
"""Parts of the messages, by file and fault."""


ARGUMENTS = {
    "a negative seed": "--seed: is -1",
    "no seeds": "--seeds: is 0",
    "an unknown preset": "--preset",
    "unknown data": "'fashion'",
    "missing devices": "devices: 99 requested",
    "an unknown student": "'vgg'",
    "an unknown family": "Expected one of ('resnet'",
    "the seed of another model": "--network-seed: is 7. Fix: give 0, or more --seeds",
    "a student that occurs twice": "--students: names a family twice",
    "a size that no model has": "--sizes: no model has a size 'colour'",
    "a size that the data determine": "choose among depth, growth, stem_stride, width",
    "a student of another seed": "students have the seed of --seed",
    "a student without teachers": "holds no trained model",
    "nothing trained": "holds no trained model",
    "no ensemble": "holds no trained model",
    "no runs": "--runs: is 0",
    "no folds": "folds: is 1",
    "an unknown change": "'colour' is unknown",
}


def assert_short(error):
    assert error.count("\n") == 0
    assert "Fix: " in error
    assert len(error) <= LINE


def test_the_table_in_the_readme_has_every_protocol():
    table = (Path(__file__).parent / "faults" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (.+?) \| [\d,]+ \|", table, re.MULTILINE) == list(PROTOCOLS)


@pytest.fixture
def error_of(tmp_path, monkeypatch, capsys):
    """error_of(program, *arguments) -> the line of a program that exits with code 2 and writes nothing."""

    def call(program, *arguments):
        before = listing(tmp_path)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("experiments.cli.options.use_cache", lambda folder: None)
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        for module in (f"experiments.{program}", f"experiments.{program}.__main__"):
            monkeypatch.delitem(sys.modules, module, raising=False)  # runpy warns of imported modules
        with pytest.raises(SystemExit) as end:
            runpy.run_module(f"experiments.{program}", run_name="__main__", alter_sys=True)
        error = capsys.readouterr().err
        assert (end.value.code, error[:7]) == (2, "error: ")
        assert_short(error.removesuffix("\n"))
        assert listing(tmp_path) == before
        return error

    return call


@pytest.mark.parametrize("name", cases.COMMANDS)
def test_invalid_arguments_are_rejected_in_one_line(error_of, name):
    assert ARGUMENTS.get(name, "") in error_of(*cases.COMMANDS[name])


@pytest.mark.parametrize("name", SMALL)
def test_an_invalid_file_is_rejected_in_one_line(error_of, tmp_path, name):
    kind, _, fault = name.partition(": ")
    assert WORDS.get(kind, {}).get(fault, "") in error_of(*cases.ENTRANCES[name](tmp_path, Path()))


@pytest.mark.parametrize("name", inputs.CONFIG)
def test_an_invalid_config_is_rejected_in_one_line(tmp_path, name):
    (tmp_path / "config.json").write_bytes(inputs.CONFIG[name](CONFIG))
    with pytest.raises(InputError) as caught:
        outline(tmp_path, read_config(tmp_path))
    assert_short(str(caught.value).replace(str(tmp_path), ""))


def test_a_changed_file_is_rejected_or_read_correctly(tmp_path):
    trials = list(mutate.mutations(tmp_path, np.random.default_rng(1), 300))
    assert [trial.failure for trial in trials if trial.failure] == []
    assert sum(trial.struck for trial in trials) > 290
