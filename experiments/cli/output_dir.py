"""A job: a folder of results and what is computed for it, by nobody else meanwhile, always with the same settings."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.cli import exit_codes
from experiments.cli.console import say
from experiments.cli.options import MANY, Options, is_distributed, start_jax
from experiments.cli.overrides import change_preset
from experiments.cli.paths import writable
from experiments.cli.provenance import clocked
from experiments.cli.tensorboard import check_events
from jaxnets import data, recipes
from jaxnets.config import Preset, to_json
from jaxnets.errors import InputError
from jaxnets.store.atomic import read_json, remove_temporary, write_json
from jaxnets.store.lock import locked
from jaxnets.store.manifest import sealed_folder

RESULTS = ("submission.csv", "report.json", "report.html")


class Job(NamedTuple):
    """An experiment about to run: its folder, its preset, its data (no test labels here) and its devices.

    Every stage calls `compare` before it computes a part of the results, see `compare_environment`. It compares once,
    and never in a process on a part of the machine: the pipeline that started it has compared the whole.
    """

    out: Path
    preset: Preset
    digits: data.Digits
    data_sha256: str
    train_rows: np.ndarray
    valid_rows: np.ndarray
    devices: Any
    precision: str
    seed: int
    compare: Callable[[], None]
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
    if not several and is_distributed(options):
        raise InputError("--coordinator", "only the pipeline and train are for several processes", "leave it out")
    start_jax(options)
    from jaxnets.devices import check_same_everywhere, choose_devices, default_precision, is_primary
    from jaxnets.store.fingerprint import fingerprint
    from jaxnets.training.parallel import check_batch

    devices = choose_devices(options.devices)
    accelerator = devices[0].platform != "cpu"
    preset = chosen_preset(options, "competition" if accelerator else "quick")
    precision = default_precision(devices) if options.precision == "auto" else options.precision
    fold = "" if options.fold is None else "-fold-{}-of-{}".format(*options.fold)
    out = options.out or Path("checkpoints") / f"{preset.name}-{digits.name}{fold}"
    sha256 = data.digest(digits)
    train_rows, valid_rows = split_rows(digits.y_train, preset, options)
    for recipe in preset.recipes:  # before anything is written
        check_batch(recipe.training.batch_size, len(train_rows), devices)
    check(preset)
    if not begins and not (out / "members").is_dir():
        raise InputError(out, "holds no trained network", "run experiments.train or the pipeline first")
    settings = {"data_sha256": sha256, "seed": options.seed, "precision": precision, "fold": options.fold}
    settings = json.loads(json.dumps(settings))  # as it is read back
    check_same_everywhere(out, {"preset": to_json(preset), **settings})
    writable(out)
    environment = fingerprint(devices)
    part = exit_codes.heartbeat is not None and options.coordinator is None  # of a machine that the pipeline divided
    with locked(out / ".lock") if alone and is_primary() else nullcontext():
        if is_primary():
            notes = {"fingerprint": environment}
            claim(out, {"preset": shared_settings(preset)} | settings, notes, resume=options.resume)
        if alone and is_primary():
            for folder in (out, out / "predictions"):  # other processes may write to members/
                remove_temporary(folder)
        why = f", as there is {'an' if accelerator else 'no'} accelerator" if options.preset == "auto" else ""
        where = f"{len(devices)} {devices[0].device_kind} device{'s' if len(devices) > 1 else ''}"
        if not part:  # else the pipeline has said it
            say(f"preset {preset.name}{why}; data {digits.name}; {where}, {precision}; results in {out}")
        compare = compare_once(out, environment, identical=options.require_identical)
        how = devices, precision, options.seed, (lambda: None) if part else compare
        flags = options.require_identical, options.tensorboard
        yield Job(out, preset, digits, sha256, train_rows, valid_rows, *how, *flags)


def split_rows(labels: np.ndarray, preset: Preset, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """labels (N,) -> rows to train on and rows to validate on; of the latter there may be none."""
    if options.fold is not None:
        number, folds = options.fold
        if not 0 <= number < folds:
            raise InputError("--fold", f"is {number} of {folds}", "count the folds from 0")
        return data.stratified_folds(labels, folds)[number]
    if preset.valid_fraction == 0:
        return np.arange(len(labels)), np.zeros(0, int)
    return data.stratified_split(labels, fraction=preset.valid_fraction, seed=options.seed)


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
    check_views(options.views)
    preset = replace(preset, views=options.views or preset.views)
    if preset.students and preset.valid_fraction == 0 and options.fold is None:
        problem = f"need a calibrated ensemble, and preset {preset.name} holds out no rows to calibrate it on"
        raise InputError("--students", problem, "leave them out, or hold out a fold with --fold")
    return change_preset(preset, options.training, options.sizes)


def check_views(views: int | None) -> None:
    if views is not None and not 1 <= views <= MANY:
        raise InputError("--views", f"is {views}", f"give an integer from 1 to {MANY}")


def check_families(preset: Preset, families: tuple[str, ...], *, option: str) -> None:
    """InputError where the preset has not all of them, or one is named twice."""
    for family in families:
        preset.recipe(family, option=option)
    if len(set(families)) < len(families):
        raise InputError(option, "names a family twice", "name each once")


def shared_settings(preset: Preset) -> dict[str, Any]:
    """What must not change within a job: more seeds, students or views may come later."""
    return {name: value for name, value in to_json(preset).items() if name not in ("seeds", "students", "views")}


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


def read_settings(out: Path) -> dict[str, Any]:
    """What job.json says of the settings, without the environments that computed with them."""
    job = read_json(out / "job.json")
    return {name: value for name, value in job.items() if name not in ("fingerprint", "later_fingerprints")}


@contextmanager
def compute(job: Job, stage: str, folder: Path, origin: dict[str, Any]) -> Iterator[Path]:
    """Yields an empty folder for the results of a `stage`, which becomes `folder` when the block ends well. The
    environment is compared first, and the seconds are kept."""
    job.compare()
    with clocked(job.out, stage), sealed_folder(folder, origin) as draft:
        yield draft


def compare_once(out: Path, now: dict[str, Any], *, identical: bool) -> Callable[[], None]:
    """Returns a function that calls `compare_environment` the first time, so that it warns once."""
    return cache(partial(compare_environment, out, now, identical=identical))


def compare_environment(out: Path, now: dict[str, Any], *, identical: bool) -> None:
    """Warns, or raises InputError if the bits must be `identical`, if a part of the results in `out` was computed in
    another environment than `now`. job.json keeps them all: the first one, and those that came later."""
    from jaxnets.store.fingerprint import compare

    path = out / "job.json"
    job = read_json(path)
    first, later = job.get("fingerprint", {}), job.get("later_fingerprints", [])
    if not isinstance(later, list) or not all(isinstance(one, dict) for one in (first, *later)):
        raise InputError(path, "is damaged: a fingerprint is no object", "give another --out")
    compare(out, [first, *later], now, identical=identical)
    if now not in (first, *later):
        write_json(path, job | {"later_fingerprints": [*later, now]})
