"""What is wrong, and the program that is told to take it: each case leaves its files in a folder, and says the
arguments of a program to be started there."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.store.checkpoint import steps
from jaxnets.store.manifest import seal
from tests.faults import inputs

Make = Callable[[Path, Path], list[str]]
"""make(folder, job) -> arguments; `job` is a finished one of one network, wide_cnn-0, to copy from."""
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
    """A folder of tables, one of which has this content."""

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
    return said([program, *options(program), "--data", "my.npz"], {"my.npz": lambda path: path.write_bytes(content())})


def said(arguments: list[str], files: dict[str, Change] | None = None) -> Make:
    """A program with these arguments, in a folder with these files."""

    def make(folder: Path, job: Path) -> list[str]:
        for name, create in (files or {}).items():
            create(folder / name)
        return arguments

    return make


def run(change: Change, *, sealed: bool = False) -> Make:
    """A trained network is to be scored, `change(its folder)` after training; as a rule without the seal over it."""

    def make(folder: Path, job: Path) -> list[str]:
        shutil.copytree(job / "members" / "wide_cnn-0", folder / "run")
        if not sealed:
            (folder / "run" / "seal.json").unlink()
        change(folder / "run")
        return SCORE

    return make


def config(change: Callable[[dict[str, Any]], bytes]) -> Make:
    return run(lambda run: (run / "config.json").write_bytes(change(json.loads((run / "config.json").read_text()))))


def weights(change: Callable[[dict[str, np.ndarray]], bytes]) -> Make:
    """The same with its weights in a file."""

    def make(folder: Path, job: Path) -> list[str]:
        run(lambda run: None)(folder, job)
        with np.load(job / "weights.npz") as file:
            (folder / "run" / "weights.npz").write_bytes(change(dict(file)))
        return SCORE

    return make


def job(change: Change, arguments: list[str] = TRAIN) -> Make:
    """A finished job is taken up again, `change(its folder)` later."""

    def make(folder: Path, job: Path) -> list[str]:
        shutil.copytree(job, folder / "out")
        change(folder / "out")
        return arguments

    return make


def unfinished(change: Change) -> Make:
    """A training is taken up again, `change(the folder of its steps)` later."""

    def reopen(out: Path) -> None:
        hidden = out / "members" / ".wide_cnn-0.unfinished"
        (out / "members" / "wide_cnn-0").rename(hidden)
        change(hidden / "state")

    return job(reopen)


def each(change: Change) -> Change:
    """The change of every step."""
    return lambda state: [change(state / str(step)) for step in steps(state)]


def write(name: str, text: str | bytes) -> Change:
    content = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / name).write_bytes(content)


def instead(name: str, create: Change) -> Change:
    """Something else under the name of a file or of a folder."""

    def change(folder: Path) -> None:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
        create(folder / name)

    return change


def itself(path: Path) -> None:
    path.symlink_to(path.name)


def closed(path: Path) -> None:
    path.write_bytes(inputs.npz())
    path.chmod(0)


def closed_folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0o500)


def empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def moved_out(path: Path) -> None:
    """A link in the place of what lies elsewhere now."""
    away = path.parents[1] / f"{path.parent.name}-{path.name}-elsewhere"
    path.rename(away)
    path.symlink_to(away)


def sealed_anew(change: Change) -> Change:
    """A step of other content under a seal that fits."""

    def reseal(step: Path) -> None:
        facts = json.loads((step / "seal.json").read_text())["made_from"]
        change(step)
        (step / "seal.json").unlink()
        seal(step, facts)

    return reseal


def foreign_seal(step: Path) -> None:
    """The folder of something else: whole, but no step."""
    (step / "seal.json").unlink()
    seal(step, {"network": "", "views": 3})


def without_one(path: Path) -> None:
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
        for name in ("empty", "256", "a short row", "gzip of zeros without end")
    },
    "test.csv: the training table": kaggle(lambda: inputs.TRAIN, name="test.csv"),
    **{f"idx: {name}": mnist(content) for name, content in inputs.IDX.items()},
    **{f"npz: {name}": npz(content) for name, content in inputs.NPZ.items()},
    **{
        f"npz, scratch: {name}": npz(inputs.NPZ[name], program="train_scratch")
        for name in ("a bare pickle", "NaN", "a bomb", "a class of one row")
    },
    **{f"config.json: {name}": config(change) for name, change in inputs.CONFIG.items()},
    **{
        f"Kaggle's zip: {name}": said(
            ["pipeline", *SMOKE, "--data", "kaggle", "--data-path", "my.zip"],
            {"my.zip": lambda path, content=content: path.write_bytes(content())},  # type: ignore[misc]
        )
        for name, content in inputs.ARCHIVES.items()
    },
}
STATES: dict[str, Make] = {
    "weights: empty": weights(lambda arrays: b""),
    "weights: cut short": weights(lambda arrays: inputs.npz(**arrays)[:-99]),
    "weights: a .pt file": weights(lambda arrays: inputs.zipped(**{"archive/data.pkl": b"\x80\x02}q\0."})),
    "weights: another network's": weights(lambda arrays: inputs.npz()),
    "weights: halves": weights(lambda arrays: inputs.plain_npz({k: v.astype("f2") for k, v in arrays.items()})),
    "weights: NaN": weights(lambda arrays: inputs.plain_npz({k: v * np.float32("nan") for k, v in arrays.items()})),
    "weights: a bomb": weights(inputs.weights_bomb),
    "metrics.csv: empty": run(write("metrics.csv", "")),
    "metrics.csv: a header only": run(write("metrics.csv", "epoch,loss\n")),
    "metrics.csv: NUL": run(write("metrics.csv", bytes(1000))),
    "metrics.csv: other columns": run(write("metrics.csv", "a,b\n1,2\n")),
    "metrics.csv: a field of 200,000 letters": run(write("metrics.csv", "epoch\n" + "1" * 200_000)),
    "train_rows.npy: empty": run(write("train_rows.npy", "")),
    "train_rows.npy: a pickle": run(write("train_rows.npy", b"\x80\x04]\x94.")),
    "train_rows.npy: 8 TB": run(write("train_rows.npy", inputs.member((2**40,), descr="<u8"))),
    "train_rows.npy: a damaged header": run(
        write("train_rows.npy", inputs.member((2,), descr="<u8").replace(b"(2,)", b"(2,("))
    ),
    "run: a .pt file": said(SCORE, {"run": write("", b"\x80\x02}q\0.")}),
    "run: missing": said(SCORE),
    "run: empty": said(SCORE, {"run": Path.mkdir}),
    "state: missing": run(lambda run: shutil.rmtree(run / "state")),
    "state: empty": run(lambda run: empty(run / "state")),
    "state: a file": run(instead("state", Path.touch)),
    "state: a pipe": run(instead("state", os.mkfifo)),
    "state: torn": run(lambda run: each(without_one)(run / "state")),
    "state: without seals": run(lambda run: each(lambda step: (step / "seal.json").unlink())(run / "state")),
    "state: empty steps": run(lambda run: each(empty)(run / "state")),
    "state: steps that are files": run(lambda run: each(instead("", Path.touch))(run / "state")),
    "state: links out": run(lambda run: each(moved_out)(run / "state")),
    "state: links out within": run(lambda run: each(lambda step: moved_out(step / "average"))(run / "state")),
    "state: a newer format": run(lambda run: each(write("seal.json", FUTURE))(run / "state")),
    "state: a seal of 100 MB": run(lambda run: each(write("seal.json", b" " * 10**8))(run / "state")),
    "state: no step": run(lambda run: each(foreign_seal)(run / "state")),
    "state: metadata of 100 MB": run(
        lambda run: each(sealed_anew(write("average/_METADATA", b"[" + b"0," * 5 * 10**7 + b"0]")))(run / "state")
    ),
    "state: no metadata": run(
        lambda run: each(sealed_anew(lambda step: (step / "average" / "_METADATA").unlink()))(run / "state")
    ),
    "state: nothing but a seal": run(lambda run: each(sealed_anew(lambda step: empty_but(step)))(run / "state")),
    "unfinished: torn": unfinished(each(without_one)),
    "unfinished: a newer format": unfinished(each(write("seal.json", FUTURE))),
    "unfinished: no step": unfinished(each(foreign_seal)),
    "unfinished: metadata that are none": unfinished(each(sealed_anew(write("rest/_METADATA", "[]")))),
    "seal: empty": run(write("seal.json", ""), sealed=True),
    "seal: a list": run(write("seal.json", "[]"), sealed=True),
    "seal: no files": run(write("seal.json", '{"version": 1, "made_from": {}, "files": []}'), sealed=True),
    "seal: newer": run(write("seal.json", FUTURE), sealed=True),
    "seal: brackets without end": run(write("seal.json", "[" * 100_000), sealed=True),
    "seal: 100 MB": run(write("seal.json", b" " * 10**8), sealed=True),
    "seal: a file too many": run(write("notes", "mine"), sealed=True),
    "seal: a file changed": run(write("config.json", "{}"), sealed=True),
    "seal: a link": run(lambda run: moved_out(run / "best"), sealed=True),
    "seal: a pipe": run(lambda run: os.mkfifo(run / "pipe"), sealed=True),
    "member: damaged": job(write("members/wide_cnn-0/metrics.csv", "")),
    "member: no folder": job(lambda out: instead("members", Path.touch)(out)),
    **{
        f"job.json: {name}": job(write("job.json", content))
        for name, content in {
            "empty": b"",
            "cut short": b'{"seed": 0',
            "a list": b"[]",
            "no text": b"\xff\xfe\xfd",
            "brackets without end": b"[" * 100_000,
            "other settings": b"{}",
        }.items()
    },
    "job.json: a folder": job(instead("job.json", Path.mkdir)),
    "job.json: a link to itself": job(instead("job.json", itself)),
    "predictions: damaged": job(
        lambda out: [shutil.rmtree(out / "ensemble"), write("predictions/wide_cnn-0/test.npz", "")(out)],
        ["ensemble", *SMOKE, *DIGITS],
    ),
    "predictions: without a seal": job(
        lambda out: (out / "predictions/wide_cnn-0/seal.json").unlink(), ["ensemble", *SMOKE, *DIGITS]
    ),
    "ensemble: damaged": job(write("ensemble/summary.json", "{}"), ["evaluate", *SMOKE, *DIGITS]),
    **{
        f"report.json, {program}: {name}": job(write("report.json", content), arguments)
        for name, content in {"empty": "", "a list": "[]", "nothing": "{}"}.items()
        for program, arguments in {"publish": ["tools.publish", "--jobs", "out", "--out", "new"]}.items()
    },
}


def empty_but(step: Path) -> None:
    for path in step.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.write_bytes(b"{}")


PIPELINE = ["pipeline", *SMOKE]
PATHS: dict[str, Make] = {
    **{
        f"path: {name}": said([*PIPELINE, "--data", "my.npz"], {"my.npz": create})
        for name, create in {
            "a folder": Path.mkdir,
            "missing": lambda path: None,
            "a pipe": os.mkfifo,
            "a link to itself": itself,
            "no permission": closed,
        }.items()
    },
    **{
        f"path of tables: {name}": said([*PIPELINE, "--data", "kaggle", "--data-path", "here"], {"here": create})
        for name, create in {
            "an empty folder": Path.mkdir,
            "missing": lambda path: None,
            "a pipe": os.mkfifo,
            "a link to itself": itself,
        }.items()
    },
    **{
        f"name {name!r}": said([*PIPELINE, "--data", f"{name}.npz"], {f"{name}.npz": Path.touch})
        for name in ("two\nlines", "50%s", "{0}", "\x1b[31mred", "\udcff", " ")
    },
    "name of 5000 letters": said([*PIPELINE, "--data", "x" * 5000 + ".npz"]),
    **{
        f"out: {name}": said([*PIPELINE, *DIGITS], {"out": create})
        for name, create in {
            "a file": Path.touch,
            "a pipe": os.mkfifo,
            "a link to itself": itself,
            "no permission": closed_folder,
        }.items()
    },
    "out: below a file": said(["train_scratch", *DIGITS, "--out", "file/out"], {"file": Path.touch}),
    "out: a file, scratch": said(["train_scratch", *DIGITS, "--out", "out"], {"out": Path.touch}),
}
COMMANDS: dict[str, list[str]] = {
    "an unknown flag": [*PIPELINE, "--colour", "red"],
    "a flag without a value": [*PIPELINE, "--seed"],
    "a word too many": [*PIPELINE, "red"],
    "a seed that is NaN": [*PIPELINE, "--seed", "nan"],
    "a negative seed": [*PIPELINE, *DIGITS, "--seed", "-1"],
    "a seed of 40 digits": [*PIPELINE, *DIGITS, "--seed", "9" * 40],
    "no seeds": [*PIPELINE, *DIGITS, "--seeds", "0"],
    "an unknown preset": [*PIPELINE, *DIGITS, "--preset", "huge"],
    "an unknown precision": [*PIPELINE, *DIGITS, "--precision", "float8"],
    "unknown data": [*PIPELINE, "--data", "fashion"],
    "a path without use": [*PIPELINE, *DIGITS, "--data-path", "."],
    "devices that are not there": [*PIPELINE, *DIGITS, "--devices", "99"],
    "no devices": [*PIPELINE, *DIGITS, "--devices", "0"],
    "a batch that does not divide": [*PIPELINE, *DIGITS, "--devices", "3"],
    "an unknown student": [*PIPELINE, *DIGITS, "--students", "vgg"],
    "an unknown family": ["train", *SMOKE, *DIGITS, "--family", "vgg"],
    "another network's seed": ["train", *SMOKE, *DIGITS, "--network-seed", "7"],
    "processes alone": [*PIPELINE, *DIGITS, "--processes", "2"],
    "no address": [*PIPELINE, *DIGITS, "--coordinator", "nowhere", "--processes", "1", "--process-id", "0"],
    "a process too many": [*PIPELINE, *DIGITS, "--coordinator", "a:1", "--processes", "1", "--process-id", "1"],
    "nothing trained": ["predict", *SMOKE, *DIGITS],
    "no ensemble": ["evaluate", *SMOKE, *DIGITS],
    "no views": [*SCORE, "--views", "0"],
    "networks that are not there": ["evaluate", *SMOKE, *DIGITS, "--runs", "nowhere"],
    "no jobs": ["tools.publish"],
    "no finished job": ["tools.publish", "--jobs", "nowhere"],
    "no recipe": ["train_scratch", *SCRATCH, *DIGITS, "--recipe", "huge"],
    "no seeds, scratch": ["train_scratch", *SCRATCH, *DIGITS, "--seeds", "0"],
    "no test labels": ["train_scratch", "--data", "kaggle", "--data-path", "nowhere"],
    "no runs": ["studies.speedrun", *DIGITS, "--runs", "0"],
    "an unknown target": ["studies.speedrun", *DIGITS, "--target", "98"],
    "no folds": ["studies.ablate", *DIGITS, "--preset", "smoke", "--folds", "1"],
    "an unknown change": ["studies.ablate", *DIGITS, "--preset", "smoke", "--changes", "colour"],
    "a rate that is NaN": ["studies.ablate", *DIGITS, "--preset", "smoke", "--learning-rate", "nan"],
    "no epochs": ["studies.ablate", *DIGITS, "--preset", "smoke", "--epochs", "0"],
    "no rounds": ["benchmark", *DIGITS, "--rounds", "0"],
    "an unknown figure": ["studies.figures", "--only", "colour"],
    "no command": ["cluster.launch"],
    "no processes": ["cluster.launch", "--processes", "0", "--", "true"],
    "a stall of NaN": ["cluster.launch", "--stall", "nan", "--", "true"],
    "a negative stall": ["cluster.launch", "--stall", "-1", "--", "true"],
    "no such program": ["cluster.launch", "--processes", "1", "--", "/nowhere/program"],
    "devices of none": ["cluster.launch", "--devices-each", "0", "--", "true"],
}
CASES = ENTRANCES | STATES | PATHS | {f"arguments: {name}": said(words) for name, words in COMMANDS.items()}
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
"""What each of them is to be read as."""
