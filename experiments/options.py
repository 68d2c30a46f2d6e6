"""What every experiment is told on its command line, and what it makes of that: a `Job`. JAX is imported late."""

import io
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal, NamedTuple

import numpy as np

from experiments.console import choose, say
from experiments.ending import PULSE, in_one_line
from experiments.events import check_events
from jaxnets import data, recipes
from jaxnets.config import Preset, to_json
from jaxnets.errors import InputError
from jaxnets.files import read_json, write_json
from jaxnets.lock import locked

MANY = 1000
"""Seeds, or views: more would be a slip of the pen."""
RESULTS = ("submission.csv", "report.json", "report.html")


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    tensorboard: bool = False
    """Write TensorBoard's event files too, under tensorboard/ in the folder of the results."""
    verbose: bool = False
    """Say more: all numbers of each epoch, and how long each stage took."""
    quiet: bool = False
    """Say nothing but errors, warnings and the last line."""


@dataclass(frozen=True, kw_only=True)
class Options(LogOptions):
    preset: Literal["auto", "smoke", "quick", "standard", "full"] = "auto"
    """Which networks, and how long: auto is full with an accelerator and quick without."""
    data: str = "mnist"
    """mnist, kaggle, digits, or a path: an .npz with x_train, y_train, x_test and perhaps y_test, or a folder with four
    idx files under MNIST's names, such as Fashion-MNIST's."""
    data_path: Path | None = None
    """Where the files of mnist or kaggle are, if not under data/."""
    out: Path | None = None
    """Folder of the results; checkpoints/PRESET-DATA unless given. Started again on it, an experiment goes on."""
    seed: int = 0
    """Of the first networks and of the validation rows."""
    seeds: int | None = None
    """Networks of each family, each from a seed of its own: the preset's unless given."""
    students: tuple[str, ...] | None = None
    """Families to train once more, on pseudo-labels too: the preset's unless given."""
    devices: int | None = None
    """How many devices to use: all unless given."""
    distributed: bool = False
    """Work together with the other processes that SLURM, Open MPI or a TPU pod has started."""
    coordinator: str | None = None
    """HOST:PORT of process 0, if no such manager tells. experiments.launch gives this and the next two."""
    processes: int | None = None
    """How many work together."""
    process_id: int | None = None
    """Which of them this one is, from 0."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the computation; parameters and statistics stay float32. auto is the hardware's best."""
    resume: bool = True
    """Go on with what lies in the folder of the results; --no-resume refuses one that was used."""
    require_identical: bool = False
    """Refuse to go on where the bits may differ: other versions, devices, processors or flags than when it began."""
    compilation_cache: bool = True
    """Keep compiled programs in the user's cache folder, so that the next start is quick."""


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(Options):
    allow_trained_rows: bool = False
    """Score images that a network was trained on too; the report says how many they were."""


class Job(NamedTuple):
    """An experiment about to run: its folder, its preset, its data (no test labels here) and its devices."""

    out: Path
    preset: Preset
    digits: data.Digits
    data_sha256: str
    train_rows: np.ndarray
    valid_rows: np.ndarray
    devices: Any
    precision: str
    seed: int
    identical: bool
    tensorboard: bool

    def member(self, family: str, seed: int, *, student: bool = False) -> Path:
        return self.out / "members" / f"{family}-{seed}{'-student' if student else ''}"

    def teachers(self) -> list[Path]:
        seeds = range(self.seed, self.seed + self.preset.seeds)
        return [self.member(recipe.family, seed) for seed in seeds for recipe in self.preset.recipes]

    def students(self) -> list[Path]:
        return [self.member(family, self.seed, student=True) for family in self.preset.students]

    def valid_labels(self) -> np.ndarray:
        return self.digits.y_train[self.valid_rows]

    def pictures(self) -> dict[str, np.ndarray]:
        """What the members are asked about: validation and test images."""
        return {"valid": self.digits.x_train[self.valid_rows], "test": self.digits.x_test}


@contextmanager
def open_job(
    options: Options,
    *,
    alone: bool = True,
    begins: bool = False,
    several: bool = False,
    check: Callable[[Preset], None] = lambda preset: None,
) -> Iterator[Job]:
    """Reads the data, finds the devices, claims the output folder, and says on one line what will run where. Where it
    is to be `alone`, no other job may write to the folder meanwhile; `several` processes may take part if they all ask
    for the same. Nothing is written where `check` raises, or where there is no job in the folder and this one does not
    begin one."""
    if not 0 <= options.seed < 2**31 - MANY:
        raise InputError("--seed", f"is {options.seed}", f"give a whole number from 0 to {2**31 - MANY - 1}")
    check_events(wanted=options.tensorboard)
    digits = data.load(options.data, options.data_path)._replace(y_test=None)
    if not several and joins(options):
        raise InputError("--coordinator", "only the pipeline and train are for several processes", "leave it out")
    start_jax(options)
    from jaxnets.devices import choose_devices, default_precision, leads, refuse_unlike
    from jaxnets.fingerprint import fingerprint
    from jaxnets.training.parallel import check_batch

    devices = choose_devices(options.devices)
    accelerator = devices[0].platform != "cpu"
    preset = chosen_preset(options, "full" if accelerator else "quick")
    precision = default_precision(devices) if options.precision == "auto" else options.precision
    out = options.out or Path("checkpoints") / f"{preset.name}-{digits.name}"
    sha256 = data.digest(digits)
    train_rows, valid_rows = data.stratified_split(digits.y_train, fraction=preset.valid_fraction, seed=options.seed)
    for recipe in preset.recipes:  # before anything is written
        check_batch(recipe.training.batch_size, len(train_rows), devices)
    check(preset)
    if not begins and not (out / "members").is_dir():
        raise InputError(out, "holds no trained network", "run experiments.train or the pipeline first")
    settings = {"data_sha256": sha256, "seed": options.seed, "precision": precision}
    made_by = fingerprint(devices)
    refuse_unlike(out, {"preset": to_json(preset), **settings})
    nameable(out)
    writable(out)
    with locked(out / ".lock") if alone and leads() else nullcontext():
        if leads():
            claim(out, {"preset": same_for_all(preset)} | settings, {"fingerprint": made_by}, resume=options.resume)
            if PULSE not in os.environ or joins(options):  # else the pipeline has done so, of all its cores
                compare_job(out, made_by, identical=options.require_identical)
        why = f", as there is {'an' if accelerator else 'no'} accelerator" if options.preset == "auto" else ""
        where = f"{len(devices)} {devices[0].device_kind} device{'s' if len(devices) > 1 else ''}"
        if PULSE not in os.environ or options.coordinator is not None:  # else the pipeline has said it
            say(f"preset {preset.name}{why}; data {digits.name}; {where}, {precision}; results in {out}")
        how = devices, precision, options.seed, options.require_identical, options.tensorboard
        yield Job(out, preset, digits, sha256, train_rows, valid_rows, *how)


def chosen_preset(options: Options, default: str) -> Preset:
    """The preset of that name, or the default where it is auto, with what the command line changes in it."""
    preset = recipes.preset(default if options.preset == "auto" else options.preset)
    if options.seeds is not None:
        if not 1 <= options.seeds <= MANY:
            raise InputError("--seeds", f"is {options.seeds}", f"give a whole number from 1 to {MANY}")
        preset = replace(preset, seeds=options.seeds)
    if options.students is not None:
        check_families(preset, options.students, option="--students")
        preset = replace(preset, students=options.students)
    return preset


def check_families(preset: Preset, families: tuple[str, ...], *, option: str) -> None:
    """InputError where the preset has not all of them, or one is named twice."""
    for family in families:
        preset.recipe(family, option=option)
    if len(set(families)) < len(families):
        raise InputError(option, "names a family twice", "name each once")


def same_for_all(preset: Preset) -> dict[str, Any]:
    """What must not change within a job: more seeds or students may come later."""
    return {name: value for name, value in to_json(preset).items() if name not in ("seeds", "students")}


def claim(out: Path, settings: dict[str, Any], notes: dict[str, Any] | None = None, *, resume: bool = True) -> None:
    """Marks `out` as made with `settings`, and with `notes` of how; InputError if it was made with other settings: two
    runs must not mix."""
    path = out / "job.json"
    if not os.path.lexists(path):
        others = [entry.name for entry in os.scandir(out) if entry.is_dir() or entry.name in RESULTS]
        try:
            if others:  # somebody's home, or the repository
                problem = f"holds {others[0]!r:.60}, but no job.json"
                raise InputError(out, problem, "give another --out, or an empty folder")
            write_json(path, settings | (notes or {}), new=True)
            return
        except InputError:
            if not os.path.lexists(path):  # else somebody has begun it at this very moment
                raise
    job = read_json(path, "give another --out")
    different = [name for name, value in settings.items() if job.get(name) != value]
    if different:
        fix = "give another --out, or the same options as then"
        raise InputError(path, f"the results there were made with another {' and '.join(different)}", fix)
    if not resume:
        raise InputError(out, "was used before", "give another --out, or leave out --no-resume to go on with it")


def compare_job(out: Path, now: dict[str, Any], *, identical: bool) -> None:
    """A warning, or an InputError if the bits must be `identical`, where a job goes on otherwise than it began. A
    training that goes on warns of that itself."""
    from jaxnets.fingerprint import compare

    if identical or not any((out / "members").glob(".*.unfinished")):
        began = read_json(out / "job.json").get("fingerprint", now)  # jobs did not name it once
        compare(out, [began], now, identical=identical)


def writable(folder: Path) -> None:
    """Makes the folder where it is missing; InputError, before any work is done, if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(folder, f"cannot be written ({error.strerror})", "give another folder") from error


def nameable(folder: Path) -> None:
    """InputError where the folder's whole name is not UTF-8: orbax could write nothing below it."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError as error:
        raise InputError(folder, "has a name that is not UTF-8", "give another --out") from error


def writable_file(path: Path) -> None:
    """InputError, before any work is done, if no file can be written at `path`, or if a pipe, a device or a link is
    there, which the file would replace. Nothing is made, not even its folder."""
    if path.is_dir():
        raise InputError(path, "is a folder", "give the name of a file")
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise InputError(path, "is there and is no ordinary file", "give another name")
    writable(next(folder for folder in path.parents if os.path.lexists(folder)))


def joins(options: Options) -> bool:
    """Whether this process is to work together with others."""
    return options.distributed or (options.coordinator, options.processes, options.process_id) != (None, None, None)


def start_jax(options: Options) -> None:
    """Before anything is computed."""
    import jax

    if joins(options):
        from experiments.together import join

        join(options.coordinator, options.processes, options.process_id)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if options.compilation_cache and not home.startswith("~"):  # of an account without a home
        jax.config.update("jax_compilation_cache_dir", f"{home}/jaxnets/xla")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def run(main: Callable[[Any], None], options: type, *, resumes: bool = True) -> None:
    """Parses the command line into `options` and calls `main`. `resumes` says whether the same command would go on from
    where it was interrupted."""
    with in_one_line(resumes=resumes):
        given = parse(options, sys.modules[main.__module__].__doc__)
        if isinstance(given, LogOptions):
            choose(verbose=given.verbose, quiet=given.quiet)
        main(given)


def parse(options: type, description: str | None) -> Any:
    """The command line as `options`. What tyro says of a wrong one, in a box of many lines, becomes an InputError."""
    import tyro

    name, told = Path(sys.argv[0]).stem, io.StringIO()
    completes = any(word.startswith("--tyro-") for word in sys.argv)  # a shell completes but commands of one word
    program = name if completes else f"python -m experiments.{name}"
    try:
        with redirect_stderr(told):
            return tyro.cli(options, prog=program, description=description)
    except SystemExit as end:
        if not end.code:
            raise
        text = re.sub(r"\x1b\[[0-9;]*m", "", told.getvalue())
        parts = re.split("^ *(?:╭|─{3}|-{3}).*\n", text.replace("│", ""), flags=re.MULTILINE)
        _, problem, *more = [*parts, "is not understood"]
        option = re.search("^ *(--[a-z-]+)", "".join(more), re.MULTILINE)
        fix = f"see {option[1] + ' in ' if option else ''}{program} --help"
        raise InputError("command line", shorten(problem, 200).rstrip("."), fix) from end
