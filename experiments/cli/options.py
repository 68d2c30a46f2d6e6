"""The options that all experiments share, and how a program starts with them. JAX is imported late."""

import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jaxnets.config import TrainConfig
from jaxnets.errors import InputError
from jaxnets.recipes import FAMILIES, PRESETS

from .compilation_cache import use_cache
from .console import choose
from .exit_codes import in_one_line
from .overrides import default, optional_fields

if TYPE_CHECKING:
    TrainingChanges = Any
    PresetName = str
    NamedPreset = str
    Family = str
else:
    TrainingChanges = optional_fields(TrainConfig)
    PresetName = Literal["auto", *PRESETS]
    NamedPreset = Literal[*PRESETS]
    Family = Literal[*FAMILIES]

MAX_SEEDS = 1000
"""Largest number of seeds or views: a larger one would be a typing error."""


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    tensorboard: bool = False
    """Also write TensorBoard event files, to tensorboard/ in the output directory."""
    verbose: bool = False
    """Print more: all metrics of every epoch, and the seconds of every stage."""
    quiet: bool = False
    """Print errors, warnings and the last line only."""


@dataclass(frozen=True, kw_only=True)
class Options(LogOptions):
    preset: PresetName = "auto"
    """Which models are trained and for how long. auto: competition on an accelerator, quick on a CPU."""
    data: str = "mnist"
    """The data: mnist, kaggle, digits, the path of an .npz file with x_train, y_train, x_test and optionally y_test,
    or a directory with four idx files named as MNIST's, such as Fashion-MNIST's."""
    data_path: Annotated[Path | None, default("data/")] = None
    """Directory with the files of mnist or kaggle."""
    out: Annotated[Path | None, default("checkpoints/PRESET-DATA")] = None
    """Output directory. If it holds an unfinished experiment, that one continues."""
    seed: int = 0
    """Seed of the first model of each family and of the choice of validation rows."""
    fold: tuple[int, int] | None = None
    """Two integers K F: hold out fold K (counted from 0) of F stratified folds for validation, instead of the preset's
    fraction."""
    families: Annotated[tuple[str, ...] | None, default("all of the preset")] = None
    """Families to train."""
    seeds: Annotated[int | None, default("the preset's")] = None
    """Number of models per family, each with its own seed."""
    students: Annotated[tuple[str, ...] | None, default("the preset's")] = None
    """Families to train a second time, on pseudo-labels too."""
    views: Annotated[int | None, default("the preset's")] = None
    """Number of views per image in test-time augmentation; the first is the image itself."""
    devices: Annotated[int | None, default("all")] = None
    """Number of devices to use."""
    distributed: bool = False
    """Train together with the other processes that SLURM, Open MPI or a TPU pod has started."""
    coordinator: str | None = None
    """HOST:PORT of process 0, if no cluster manager provides it. experiments.cluster.launch sets this option and the
    next two."""
    processes: int | None = None
    """Number of processes that train together."""
    process_id: int | None = None
    """Index of this process, counted from 0."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the computation; parameters and statistics are float32. auto: the fastest that the hardware
    supports."""
    resume: bool = True
    """Continue with the results in the output directory. With --no-resume, a used directory is an error."""
    require_identical: bool = False
    """Refuse to compute if the results may differ in their last bits because versions, devices, processors or
    environment variables changed since the experiment began."""
    training: TrainingChanges = field(default_factory=TrainingChanges)
    """Changes to how every model of the preset is trained."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Changes to the sizes of every model that has them, for example: width 32 depth 5."""
    compilation_cache: bool = True
    """Keep compiled programs in the user's cache directory, so that the next start is faster."""


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(Options):
    allow_trained_rows: bool = False
    """Evaluate on test images that a model was trained on too; the report states how many there are."""


def check_count(option: str, value: int | None) -> None:
    """Raise InputError unless the value of the option is an integer from 1 to MAX_SEEDS, or None."""
    if value is not None and not 1 <= value <= MAX_SEEDS:
        raise InputError(option, f"is {value}", f"give an integer from 1 to {MAX_SEEDS}")


def check_seed(seed: int) -> None:
    """Raise InputError unless MAX_SEEDS seeds from this one on fit into 31 bits."""
    if not 0 <= seed < 2**31 - MAX_SEEDS:
        raise InputError("--seed", f"is {seed}", f"give an integer from 0 to {2**31 - MAX_SEEDS - 1}")


def is_distributed(options: Options) -> bool:
    """Return whether this process trains together with others."""
    return options.distributed or (options.coordinator, options.processes, options.process_id) != (None, None, None)


def start_jax(options: Options) -> None:
    """Join the other processes and configure the compilation cache; call it before JAX computes anything."""
    if is_distributed(options):
        from .distributed import join

        join(options.coordinator, options.processes, options.process_id)
    home = os.path.normpath(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    # An account may have no home, JAX takes UTF-8 only, and the XDG specification forbids relative paths.
    if options.compilation_cache and home.startswith("/") and home.isprintable():
        use_cache(Path(home, "jaxnets", "xla"))


def run(main: Callable[[Any], None], options: type, *, resumes: bool = True) -> None:
    """Parse the command line into the dataclass `options` and call `main` with it; exit with one line and a code if it
    fails. `resumes` tells whether the same command continues where it was interrupted."""
    with in_one_line(resumes=resumes):
        script = sys.modules[main.__module__]
        parsed = parse(options, script.__spec__.name if script.__spec__ else script.__name__, script.__doc__)
        if isinstance(parsed, LogOptions):
            choose(verbose=parsed.verbose, quiet=parsed.quiet)
        main(parsed)


def parse(options: type, module: str, description: str | None) -> Any:
    """Parse the command line of `python -m module` into `options`. Raises InputError if tyro rejects it."""
    module = module.removesuffix(".__main__")
    completes = any(word.startswith("--tyro-") for word in sys.argv)  # shells complete commands of one word only
    name = module.rpartition(".")[2]
    command = f"python -m {module}" if module.startswith("experiments.") else f"jaxnets {name.replace('_', '-')}"
    program = name if completes else command
    stderr = io.StringIO()
    try:
        with redirect_stderr(stderr):
            return tyro.cli(options, prog=program, description=description)
    except SystemExit as error:
        if not error.code:
            raise
        problem, option = read_message(stderr.getvalue())
        fix = f"see {option + ' in ' if option else ''}{program} --help"
        raise InputError("command line", shorten(problem, 200).rstrip("."), fix) from error


def read_message(box: str) -> tuple[str, str]:
    """Return the first paragraph of tyro's error message, which it prints in a box, and the first option below it.

    tyro has no public interface for its errors. It separates the title, paragraphs and help texts by lines.
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", box).strip()
    lines = [line.strip(" │|") for line in text.splitlines()[1:]]  # the first one is the title
    is_text = [re.search(r"\w", line) is not None for line in lines]
    begin = is_text.index(True) if any(is_text) else len(lines)
    end = is_text.index(False, begin) if False in is_text[begin:] else len(lines)
    option = next((line.split()[0].rstrip(",") for line in lines[end:] if re.match(r"--\w", line)), "")
    return " ".join(lines[begin:end]) or "is not understood", option
