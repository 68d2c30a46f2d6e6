"""An experiment: which models are trained, on which data and hardware, and where the results go."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnets import data
from jaxnets.config import Preset, to_json
from jaxnets.errors import InputError
from jaxnets.store.atomic import remove_temporary
from jaxnets.store.lock import locked
from jaxnets.store.manifest import committed_folder

from . import exit_codes
from .console import say
from .options import Options, check_seed, is_distributed, start_jax
from .output_dir import compare_once, register
from .paths import writable
from .presets import chosen_preset, shared_settings
from .provenance import clocked
from .run_dir import Member, RunDir
from .tensorboard import check_events

if TYPE_CHECKING:
    from jaxnets.devices import Devices


@dataclass(frozen=True, kw_only=True)
class JobData:
    """The data of an experiment, divided into training and validation rows. It has no test labels.

    The rows are sorted indices of `digits.x_train`; there may be no validation rows.
    """

    digits: data.Digits
    sha256: str
    train_rows: np.ndarray
    valid_rows: np.ndarray

    @property
    def valid_images(self) -> np.ndarray:
        return self.digits.x_train[self.valid_rows]

    @property
    def valid_labels(self) -> np.ndarray:
        return self.digits.y_train[self.valid_rows]


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The devices that compute, and in which precision."""

    devices: "Devices"
    precision: str

    @property
    def has_accelerator(self) -> bool:
        return self.devices[0].platform != "cpu"

    def __str__(self) -> str:
        plural = "s" if len(self.devices) > 1 else ""
        return f"{len(self.devices)} {self.devices[0].device_kind} device{plural}, {self.precision}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """An open experiment.

    Every stage calls `check_environment` before it computes a part of the results, see `compare_environment`; with
    `identical`, an `environment` other than before is an error. `heartbeat` is the file in which this process reports
    its progress, if another process supervises it.
    """

    run_dir: RunDir
    preset: Preset
    data: JobData
    hardware: Hardware
    seed: int
    environment: dict[str, Any]
    check_environment: Callable[[], None]
    identical: bool
    tensorboard: bool
    heartbeat: Path | None

    def teachers(self) -> list[Member]:
        """Return the members that are trained on labelled rows only, in the order of training."""
        seeds = range(self.seed, self.seed + self.preset.seeds)
        families = self.preset.families or [recipe.family for recipe in self.preset.recipes]
        return [Member(family, seed) for seed in seeds for family in families]

    def students(self) -> list[Member]:
        """Return the members that are trained on pseudo-labels too."""
        return [Member(family, self.seed, student=True) for family in self.preset.students]

    def members(self) -> list[Member]:
        return [*self.teachers(), *self.students()]

    def is_trained(self, member: Member) -> bool:
        return self.run_dir.member(member).is_dir()


@contextmanager
def open_job(
    options: Options,
    digits: data.Digits,
    *,
    begins: bool = False,
    exclusive: bool = True,
    distributed: bool = False,
    check: Callable[[Preset], None] = lambda preset: None,
) -> Iterator[Job]:
    """Yield the experiment of these options on the data, whose test labels are ignored.

    A directory without trained models is a new experiment if this program `begins` one, else an error. If `exclusive`,
    no other program may write to it meanwhile. If `distributed`, several processes may take part, which all call this
    alike. `check` raises InputError if the program cannot work with the preset. All InputErrors come before anything is
    written.
    """
    check_options(options, distributed=distributed)
    start_jax(options)
    from jaxnets.devices import check_same_everywhere, is_primary

    job = make_job(options, digits)
    check(job.preset)
    if not begins and not job.run_dir.members.is_dir():
        raise InputError(job.run_dir.path, "holds no trained model", "run experiments.train or the pipeline first")
    settings = job_settings(job, options)
    check_same_everywhere(job.run_dir.path, {"preset": to_json(job.preset), **settings})
    writable(job.run_dir.path)
    with locked(job.run_dir.lock) if exclusive and is_primary() else nullcontext():
        if is_primary():
            settings = {"preset": shared_settings(job.preset)} | settings
            register(job.run_dir.path, settings, {"fingerprint": job.environment}, resume=options.resume)
        if exclusive and is_primary():
            for directory in (job.run_dir.path, job.run_dir.path / "predictions"):  # others may write to members/
                remove_temporary(directory)
        if not is_worker(options):
            announce(job, options)
        yield job


def announce(job: Job, options: Options) -> None:
    """Print what is computed where."""
    reason = f", as there is {'an' if job.hardware.has_accelerator else 'no'} accelerator"
    preset = job.preset.name + (reason if options.preset == "auto" else "")
    say(f"preset {preset}; data {job.data.digits.name}; {job.hardware}; results in {job.run_dir.path}")


def is_worker(options: Options) -> bool:
    """Return whether this process computes on a part of the machine.

    The pipeline that started it has compared the environment of the whole machine, and printed the settings.
    """
    return exit_codes.heartbeat is not None and options.coordinator is None


def make_job(options: Options, digits: data.Digits) -> Job:
    """Choose hardware, preset, rows and output directory. Nothing is written."""
    from jaxnets.store.fingerprint import fingerprint
    from jaxnets.training.parallel import check_batch

    hardware = choose_hardware(options)
    preset = chosen_preset(options, "competition" if hardware.has_accelerator else "quick")
    job_data = divide(digits, preset, options)
    for recipe in preset.recipes:
        check_batch(recipe.training.batch_size, len(job_data.train_rows), hardware.devices)
    fold = "" if options.fold is None else "-fold-{}-of-{}".format(*options.fold)
    run_dir = RunDir(options.out or Path("checkpoints") / f"{preset.name}-{digits.name}{fold}")
    environment = fingerprint(hardware.devices)
    compare = compare_once(run_dir.path, environment, identical=options.require_identical)
    return Job(
        run_dir=run_dir,
        preset=preset,
        data=job_data,
        hardware=hardware,
        seed=options.seed,
        environment=environment,
        check_environment=(lambda: None) if is_worker(options) else compare,
        identical=options.require_identical,
        tensorboard=options.tensorboard,
        heartbeat=exit_codes.heartbeat,
    )


def check_options(options: Options, *, distributed: bool) -> None:
    """Raise InputError if an option has a value that no experiment allows."""
    check_seed(options.seed)
    check_events(wanted=options.tensorboard)
    if not distributed and is_distributed(options):
        raise InputError("--coordinator", "only the pipeline and train support several processes", "leave it out")


def choose_hardware(options: Options) -> Hardware:
    from jaxnets.devices import choose_devices, default_precision

    devices = choose_devices(options.devices)
    precision = default_precision(devices) if options.precision == "auto" else options.precision
    return Hardware(devices=devices, precision=precision)


def divide(digits: data.Digits, preset: Preset, options: Options) -> JobData:
    """Divide the labelled rows into training and validation rows, and drop the test labels."""
    digits = digits._replace(y_test=None)
    train_rows, valid_rows = split_rows(digits.y_train, preset, options)
    return JobData(digits=digits, sha256=data.digest(digits), train_rows=train_rows, valid_rows=valid_rows)


def split_rows(labels: np.ndarray, preset: Preset, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """labels (N,) -> training rows and validation rows; there may be no validation rows."""
    if options.fold is not None:
        fold, folds = options.fold
        if not 0 <= fold < folds:
            raise InputError("--fold", f"is {fold} of {folds}", "count the folds from 0")
        return data.stratified_folds(labels, folds)[fold]
    if preset.valid_fraction == 0:
        return np.arange(len(labels)), np.zeros(0, int)
    return data.stratified_split(labels, fraction=preset.valid_fraction, seed=options.seed)


def job_settings(job: Job, options: Options) -> dict[str, Any]:
    """Return what must be the same in all processes and at every start, besides the preset, as JSON reads it back."""
    settings = {"data_sha256": job.data.sha256, "seed": job.seed, "precision": job.hardware.precision}
    return json.loads(json.dumps(settings | {"fold": options.fold}))


@contextmanager
def compute(job: Job, stage: str, directory: Path, made_from: dict[str, Any]) -> Iterator[Path]:
    """Yield an empty directory for the results of a `stage`; it becomes `directory` when the block ends without error.

    The environment is compared first, and the seconds are recorded.
    """
    job.check_environment()
    with clocked(job.run_dir.path, stage), committed_folder(directory, made_from) as temporary:
        yield temporary
