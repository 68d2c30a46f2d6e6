"""Invalid inputs and the program that reads them: each case writes its files and returns the program's arguments."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.store.checkpoint import saved_steps
from jaxnets.store.manifest import write_manifest
from tests.faults import inputs

Make = Callable[[Path, Path], list[str]]
"""make(folder, job) -> arguments of a program to run in `folder`. `job` is a finished job with the model wide_cnn-0."""
Change = Callable[[Path], object]

SMOKE = ["--preset", "smoke", "--no-compilation-cache", "--devices", "1", "--out", "out"]
SCRATCH = ["--out", "out", "--validate"]
DIGITS = ["--data", "digits"]
TRAIN = ["train", *SMOKE, *DIGITS, "--family", "wide_cnn"]
SCORE = ["evaluate", *SMOKE, *DIGITS, "--runs", "run"]
FUTURE = '{"version": 99, "made_from": {}, "files": {}}'


def options(program: str) -> list[str]:
    return SCRATCH if program == "train_scratch" else SMOKE


def kaggle(content: Callable[[], bytes], *, program: str = "pipeline", name: str = "train.csv") -> Make:
    """Kaggle's tables, one of them with this content."""

    def make(folder: Path, job: Path) -> list[str]:
        (folder / "data").mkdir()
        (folder / "data" / "train.csv").write_bytes(inputs.TRAIN)
        (folder / "data" / "test.csv").write_bytes(inputs.TEST)
        (folder / "data" / name).write_bytes(content())
        return [program, *options(program), "--data", "kaggle", "--data-path", "data"]

    return make


def unlabelled(table: bytes) -> bytes:
    return b"\n".join(line.partition(b",")[2] for line in table.split(b"\n"))


def mnist(content: Callable[[], bytes]) -> Make:
    def make(folder: Path, job: Path) -> list[str]:
        (folder / "data").mkdir()
        for name in ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
            (folder / "data" / name).touch()
        (folder / "data" / "train-images-idx3-ubyte").write_bytes(content())
        return ["pipeline", *SMOKE, "--data", "mnist", "--data-path", "data"]

    return make


def npz(content: Callable[[], bytes], *, program: str = "pipeline") -> Make:
    return program_with(
        [program, *options(program), "--data", "my.npz"], {"my.npz": lambda path: path.write_bytes(content())}
    )


def program_with(arguments: list[str], files: dict[str, Change] | None = None) -> Make:
    """A program with these arguments, in a folder with these files."""

    def make(folder: Path, job: Path) -> list[str]:
        for name, create in (files or {}).items():
            create(folder / name)
        return arguments

    return make


def run(change: Change, *, keep_manifest: bool = False) -> Make:
    """A trained model is evaluated after `change(its folder)`, by default without a manifest of the whole folder."""

    def make(folder: Path, job: Path) -> list[str]:
        shutil.copytree(job / "members" / "wide_cnn-0", folder / "run")
        if not keep_manifest:
            (folder / "run" / "seal.json").unlink()
        change(folder / "run")
        return SCORE

    return make


def config(change: Callable[[dict[str, Any]], bytes]) -> Make:
    return run(lambda run: (run / "config.json").write_bytes(change(json.loads((run / "config.json").read_text()))))


def weights(change: Callable[[dict[str, np.ndarray]], bytes]) -> Make:
    """A trained model with changed weights in an .npz file is evaluated."""

    def make(folder: Path, job: Path) -> list[str]:
        run(lambda run: None)(folder, job)
        with np.load(job / "weights.npz") as file:
            (folder / "run" / "weights.npz").write_bytes(change(dict(file)))
        return SCORE

    return make


def job(change: Change, arguments: list[str] = TRAIN) -> Make:
    """A finished job is resumed after `change(its folder)`."""

    def make(folder: Path, job: Path) -> list[str]:
        shutil.copytree(job, folder / "out")
        change(folder / "out")
        return arguments

    return make


def unfinished(change: Change) -> Make:
    """An unfinished training is resumed after `change(the folder of its steps)`."""

    def reopen(out: Path) -> None:
        hidden = out / "members" / ".wide_cnn-0.unfinished"
        (out / "members" / "wide_cnn-0").rename(hidden)
        change(hidden / "state")

    return job(reopen)


def each(change: Change) -> Change:
    """Apply the change to every step."""
    return lambda state: [change(state / str(step)) for step in saved_steps(state)]


def write(name: str, text: str | bytes) -> Change:
    content = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / name).write_bytes(content)


def replaced_by(name: str, create: Change) -> Change:
    """Replace a file or a folder by something else."""

    def change(folder: Path) -> None:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
        create(folder / name)

    return change


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def unreadable_file(path: Path) -> None:
    path.write_bytes(inputs.npz())
    path.chmod(0)


def read_only_folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0o500)


def empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def replaced_by_link(path: Path) -> None:
    """Move `path` away and leave a link to it."""
    away = path.parents[1] / f"{path.parent.name}-{path.name}-elsewhere"
    path.rename(away)
    path.symlink_to(away)


def with_new_manifest(change: Change) -> Change:
    """Change a step, and write a manifest that matches the change."""

    def commit_again(step: Path) -> None:
        facts = json.loads((step / "seal.json").read_text())["made_from"]
        change(step)
        (step / "seal.json").unlink()
        write_manifest(step, facts)

    return commit_again


def foreign_manifest(step: Path) -> None:
    """An undamaged folder that is not a training step."""
    (step / "seal.json").unlink()
    write_manifest(step, {"network": "", "views": 3})


def remove_one_file(path: Path) -> None:
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != "seal.json")
    files[len(files) // 2].unlink()


ENTRANCES: dict[str, Make] = {
    **{f"train.csv: {name}": kaggle(content) for name, content in inputs.CSV.items()},
    **{
        f"test.csv: {name}": kaggle(lambda content=content: unlabelled(content()), name="test.csv")  # type: ignore[misc]
        for name, content in inputs.CSV.items()
        if name in inputs.FIELDS
    },
    **{
        f"train.csv, scratch: {name}": kaggle(inputs.CSV[name], program="train_scratch")
        for name in ("empty", "256", "a short row", "gzip bomb of zeros")
    },
    "test.csv: the training table": kaggle(lambda: inputs.TRAIN, name="test.csv"),
    **{f"idx: {name}": mnist(content) for name, content in inputs.IDX.items()},
    **{f"npz: {name}": npz(content) for name, content in inputs.NPZ.items()},
    **{
        f"npz, scratch: {name}": npz(inputs.NPZ[name], program="train_scratch")
        for name in ("a bare pickle", "NaN", "a bomb", "a class with one example")
    },
    **{f"config.json: {name}": config(change) for name, change in inputs.CONFIG.items()},
    **{
        f"Kaggle's zip: {name}": program_with(
            ["pipeline", *SMOKE, "--data", "kaggle", "--data-path", "my.zip"],
            {"my.zip": lambda path, content=content: path.write_bytes(content())},  # type: ignore[misc]
        )
        for name, content in inputs.ARCHIVES.items()
    },
}
STATES: dict[str, Make] = {
    "weights: empty": weights(lambda arrays: b""),
    "weights: truncated": weights(lambda arrays: inputs.npz(**arrays)[:-99]),
    "weights: a .pt file": weights(lambda arrays: inputs.zipped(**{"archive/data.pkl": b"\x80\x02}q\0."})),
    "weights: another model's": weights(lambda arrays: inputs.npz()),
    "weights: float16": weights(lambda arrays: inputs.plain_npz({k: v.astype("f2") for k, v in arrays.items()})),
    "weights: NaN": weights(lambda arrays: inputs.plain_npz({k: v * np.float32("nan") for k, v in arrays.items()})),
    "weights: a bomb": weights(inputs.weights_bomb),
    "metrics.csv: empty": run(write("metrics.csv", "")),
    "metrics.csv: a header only": run(write("metrics.csv", "epoch,loss\n")),
    "metrics.csv: NUL": run(write("metrics.csv", bytes(1000))),
    "metrics.csv: other columns": run(write("metrics.csv", "a,b\n1,2\n")),
    "metrics.csv: a field of 200,000 characters": run(write("metrics.csv", "epoch\n" + "1" * 200_000)),
    "train_rows.npy: empty": run(write("train_rows.npy", "")),
    "train_rows.npy: a pickle": run(write("train_rows.npy", b"\x80\x04]\x94.")),
    "train_rows.npy: 8 TB": run(write("train_rows.npy", inputs.member((2**40,), descr="<u8"))),
    "train_rows.npy: a damaged header": run(
        write("train_rows.npy", inputs.member((2,), descr="<u8").replace(b"(2,)", b"(2,("))
    ),
    "run: a .pt file": program_with(SCORE, {"run": write("", b"\x80\x02}q\0.")}),
    "run: missing": program_with(SCORE),
    "run: empty": program_with(SCORE, {"run": Path.mkdir}),
    "state: missing": run(lambda run: shutil.rmtree(run / "state")),
    "state: empty": run(lambda run: empty(run / "state")),
    "state: a file": run(replaced_by("state", Path.touch)),
    "state: a pipe": run(replaced_by("state", os.mkfifo)),
    "state: a missing file": run(lambda run: each(remove_one_file)(run / "state")),
    "state: no manifests": run(lambda run: each(lambda step: (step / "seal.json").unlink())(run / "state")),
    "state: empty steps": run(lambda run: each(empty)(run / "state")),
    "state: steps that are files": run(lambda run: each(replaced_by("", Path.touch))(run / "state")),
    "state: steps that are links": run(lambda run: each(replaced_by_link)(run / "state")),
    "state: items that are links": run(
        lambda run: each(lambda step: replaced_by_link(step / "average"))(run / "state")
    ),
    "state: a newer format": run(lambda run: each(write("seal.json", FUTURE))(run / "state")),
    "state: a manifest of 100 MB": run(lambda run: each(write("seal.json", b" " * 10**8))(run / "state")),
    "state: not a step": run(lambda run: each(foreign_manifest)(run / "state")),
    "state: metadata of 100 MB": run(
        lambda run: each(with_new_manifest(write("average/_METADATA", b"[" + b"0," * 5 * 10**7 + b"0]")))(run / "state")
    ),
    "state: no metadata": run(
        lambda run: each(with_new_manifest(lambda step: (step / "average" / "_METADATA").unlink()))(run / "state")
    ),
    "state: only a manifest": run(
        lambda run: each(with_new_manifest(lambda step: empty_all_but_manifest(step)))(run / "state")
    ),
    "unfinished: a missing file": unfinished(each(remove_one_file)),
    "unfinished: a newer format": unfinished(each(write("seal.json", FUTURE))),
    "unfinished: not a step": unfinished(each(foreign_manifest)),
    "unfinished: invalid metadata": unfinished(each(with_new_manifest(write("rest/_METADATA", "[]")))),
    "manifest: empty": run(write("seal.json", ""), keep_manifest=True),
    "manifest: a list": run(write("seal.json", "[]"), keep_manifest=True),
    "manifest: no files": run(write("seal.json", '{"version": 1, "made_from": {}, "files": []}'), keep_manifest=True),
    "manifest: a newer version": run(write("seal.json", FUTURE), keep_manifest=True),
    "manifest: deeply nested brackets": run(write("seal.json", "[" * 100_000), keep_manifest=True),
    "manifest: 100 MB": run(write("seal.json", b" " * 10**8), keep_manifest=True),
    "manifest: an unexpected file": run(write("notes", "mine"), keep_manifest=True),
    "manifest: a changed file": run(write("config.json", "{}"), keep_manifest=True),
    "manifest: a link": run(lambda run: replaced_by_link(run / "state"), keep_manifest=True),
    "manifest: a pipe": run(lambda run: os.mkfifo(run / "pipe"), keep_manifest=True),
    "member: damaged": job(write("members/wide_cnn-0/metrics.csv", "")),
    "member: no folder": job(lambda out: replaced_by("members", Path.touch)(out)),
    **{
        f"job.json: {name}": job(write("job.json", content))
        for name, content in {
            "empty": b"",
            "truncated": b'{"seed": 0',
            "a list": b"[]",
            "not text": b"\xff\xfe\xfd",
            "deeply nested brackets": b"[" * 100_000,
            "other settings": b"{}",
        }.items()
    },
    "job.json: a folder": job(replaced_by("job.json", Path.mkdir)),
    "job.json: a link to itself": job(replaced_by("job.json", link_to_itself)),
    "predictions: damaged": job(
        lambda out: [shutil.rmtree(out / "ensemble"), write("predictions/wide_cnn-0/test.npz", "")(out)],
        ["ensemble", *SMOKE, *DIGITS],
    ),
    "predictions: no manifest": job(
        lambda out: (out / "predictions/wide_cnn-0/seal.json").unlink(), ["ensemble", *SMOKE, *DIGITS]
    ),
    "ensemble: damaged": job(write("ensemble/summary.json", "{}"), ["evaluate", *SMOKE, *DIGITS]),
    **{
        f"report.json, {program}: {name}": job(write("report.json", content), arguments)
        for name, content in {"empty": "", "a list": "[]", "nothing": "{}"}.items()
        for program, arguments in {"publish": ["tools.publish", "--jobs", "out", "--out", "new"]}.items()
    },
}


def empty_all_but_manifest(step: Path) -> None:
    for path in step.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.write_bytes(b"{}")


PIPELINE = ["pipeline", *SMOKE]
PATHS: dict[str, Make] = {
    **{
        f"path: {name}": program_with([*PIPELINE, "--data", "my.npz"], {"my.npz": create})
        for name, create in {
            "a folder": Path.mkdir,
            "missing": lambda path: None,
            "a pipe": os.mkfifo,
            "a link to itself": link_to_itself,
            "no permission": unreadable_file,
        }.items()
    },
    **{
        f"path of tables: {name}": program_with(
            [*PIPELINE, "--data", "kaggle", "--data-path", "here"], {"here": create}
        )
        for name, create in {
            "an empty folder": Path.mkdir,
            "missing": lambda path: None,
            "a pipe": os.mkfifo,
            "a link to itself": link_to_itself,
        }.items()
    },
    **{
        f"name {name!r}": program_with([*PIPELINE, "--data", f"{name}.npz"], {f"{name}.npz": Path.touch})
        for name in ("two\nlines", "50%s", "{0}", "\x1b[31mred", "\udcff", " ")
    },
    "name of 5000 characters": program_with([*PIPELINE, "--data", "x" * 5000 + ".npz"]),
    **{
        f"out: {name}": program_with([*PIPELINE, *DIGITS], {"out": create})
        for name, create in {
            "a file": Path.touch,
            "a pipe": os.mkfifo,
            "a link to itself": link_to_itself,
            "no permission": read_only_folder,
        }.items()
    },
    "out: below a file": program_with(["train_scratch", *DIGITS, "--out", "file/out"], {"file": Path.touch}),
    "out: a file, scratch": program_with(["train_scratch", *DIGITS, "--out", "out"], {"out": Path.touch}),
}
COMMANDS: dict[str, list[str]] = {
    "an unknown flag": [*PIPELINE, "--colour", "red"],
    "a flag without a value": [*PIPELINE, "--seed"],
    "an extra argument": [*PIPELINE, "red"],
    "a seed of NaN": [*PIPELINE, "--seed", "nan"],
    "a negative seed": [*PIPELINE, *DIGITS, "--seed", "-1"],
    "a seed of 40 digits": [*PIPELINE, *DIGITS, "--seed", "9" * 40],
    "no seeds": [*PIPELINE, *DIGITS, "--seeds", "0"],
    "an unknown preset": [*PIPELINE, *DIGITS, "--preset", "huge"],
    "an unknown precision": [*PIPELINE, *DIGITS, "--precision", "float8"],
    "unknown data": [*PIPELINE, "--data", "fashion"],
    "an unused path": [*PIPELINE, *DIGITS, "--data-path", "."],
    "missing devices": [*PIPELINE, *DIGITS, "--devices", "99"],
    "no devices": [*PIPELINE, *DIGITS, "--devices", "0"],
    "an indivisible batch": [*PIPELINE, *DIGITS, "--devices", "3"],
    "an unknown student": [*PIPELINE, *DIGITS, "--students", "vgg"],
    "an unknown family": ["train", *SMOKE, *DIGITS, "--family", "vgg"],
    "the seed of another model": ["train", *SMOKE, *DIGITS, "--network-seed", "7"],
    "only a number of processes": [*PIPELINE, *DIGITS, "--processes", "2"],
    "no address": [*PIPELINE, *DIGITS, "--coordinator", "nowhere", "--processes", "1", "--process-id", "0"],
    "a process ID that is too large": [
        *PIPELINE,
        *DIGITS,
        "--coordinator",
        "a:1",
        "--processes",
        "1",
        "--process-id",
        "1",
    ],
    "a student that occurs twice": [*PIPELINE, *DIGITS, "--students", "senet", "senet"],
    "a size that no model has": [*PIPELINE, *DIGITS, "--sizes", "colour", "3"],
    "a size that the data determine": ["train", *SMOKE, *DIGITS, "--sizes", "num_classes", "5"],
    "a student of another seed": ["train", *SMOKE, *DIGITS, "--student", "--seeds", "2", "--network-seed", "1"],
    "a student without teachers": ["train", *SMOKE, *DIGITS, "--student"],
    "nothing trained": ["predict", *SMOKE, *DIGITS],
    "no ensemble": ["evaluate", *SMOKE, *DIGITS],
    "zero views": [*SCORE, "--views", "0"],
    "missing models": ["evaluate", *SMOKE, *DIGITS, "--runs", "nowhere"],
    "no jobs": ["tools.publish"],
    "no finished job": ["tools.publish", "--jobs", "nowhere"],
    "no recipe": ["train_scratch", *SCRATCH, *DIGITS, "--recipe", "huge"],
    "no seeds, scratch": ["train_scratch", *SCRATCH, *DIGITS, "--seeds", "0"],
    "no test labels": ["train_scratch", "--data", "kaggle", "--data-path", "nowhere"],
    "no runs": ["studies.speedrun", *DIGITS, "--runs", "0"],
    "an unknown target": ["studies.speedrun", *DIGITS, "--target", "98"],
    "no folds": ["studies.ablate", *DIGITS, "--preset", "smoke", "--folds", "1"],
    "an unknown change": ["studies.ablate", *DIGITS, "--preset", "smoke", "--changes", "colour"],
    "a learning rate of NaN": ["studies.ablate", *DIGITS, "--preset", "smoke", "--learning-rate", "nan"],
    "no epochs": ["studies.ablate", *DIGITS, "--preset", "smoke", "--epochs", "0"],
    "no rounds": ["benchmark", *DIGITS, "--rounds", "0"],
    "an unknown figure": ["studies.figures", "--only", "colour"],
    "no command": ["cluster.launch"],
    "no processes": ["cluster.launch", "--processes", "0", "--", "true"],
    "a stall of NaN": ["cluster.launch", "--stall", "nan", "--", "true"],
    "a negative stall": ["cluster.launch", "--stall", "-1", "--", "true"],
    "no such program": ["cluster.launch", "--processes", "1", "--", "/nowhere/program"],
    "zero devices each": ["cluster.launch", "--devices-each", "0", "--", "true"],
}
CASES = ENTRANCES | STATES | PATHS | {f"arguments: {name}": program_with(words) for name, words in COMMANDS.items()}
HARMLESS: dict[str, dict[str, Make]] = {
    "kaggle": {name: kaggle(content, program="train_scratch") for name, content in inputs.HARMLESS_CSV.items()},
    "npz": {name: npz(content, program="train_scratch") for name, content in inputs.HARMLESS_NPZ.items()},
    "config": {
        "tabs": config(lambda good: json.dumps(good, indent="\t").encode()),
        "a byte order mark": config(lambda good: b"\xef\xbb\xbf" + json.dumps(good).encode()),
    },
}
PLAIN = {
    "kaggle": kaggle(lambda: inputs.TRAIN, program="train_scratch"),
    "npz": npz(inputs.npz, program="train_scratch"),
    "config": run(lambda run: None),
}
"""The plain form of each, which must have the same results."""
