"""What every experiment is told on its command line, and how a program begins by it. JAX is imported late."""

import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal

from experiments.cli.compilation_cache import use_cache
from experiments.cli.console import choose
from experiments.cli.exit_codes import in_one_line
from experiments.cli.overrides import optional_fields
from jaxnets.config import Training
from jaxnets.errors import InputError

if TYPE_CHECKING:
    TrainingChanges = Any
else:
    TrainingChanges = optional_fields(Training)

MANY = 1000
"""Seeds, or views: more would be a slip of the pen."""


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
    preset: Literal["auto", "smoke", "quick", "standard", "competition"] = "auto"
    """Which networks, and how long: auto is competition with an accelerator and quick without."""
    data: str = "mnist"
    """mnist, kaggle, digits, or a path: an .npz with x_train, y_train, x_test and perhaps y_test, or a folder with four
    idx files under MNIST's names, such as Fashion-MNIST's."""
    data_path: Path | None = None
    """Where the files of mnist or kaggle are, if not under data/."""
    out: Path | None = None
    """Folder of the results; checkpoints/PRESET-DATA unless given. Started again on it, an experiment goes on."""
    seed: int = 0
    """Of the first networks and of the validation rows."""
    fold: tuple[int, int] | None = None
    """K F: hold out fold K (from 0) of F stratified folds for validation, instead of the preset's fraction."""
    seeds: int | None = None
    """Networks of each family, each from a seed of its own: the preset's unless given."""
    students: tuple[str, ...] | None = None
    """Families to train once more, on pseudo-labels too: the preset's unless given."""
    views: int | None = None
    """Views of each image in test-time augmentation, the image itself first: the preset's unless given."""
    devices: int | None = None
    """How many devices to use: all unless given."""
    distributed: bool = False
    """Work together with the other processes that SLURM, Open MPI or a TPU pod has started."""
    coordinator: str | None = None
    """HOST:PORT of process 0, if no such manager tells. experiments.cluster.launch gives this and the next two."""
    processes: int | None = None
    """How many work together."""
    process_id: int | None = None
    """Which of them this one is, from 0."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the computation; parameters and statistics stay float32. auto is the hardware's best."""
    resume: bool = True
    """Go on with what lies in the folder of the results; --no-resume refuses one that was used."""
    require_identical: bool = False
    """Refuse to compute where the bits may differ: other versions, devices, processors or environment variables than
    those that computed the results so far."""
    training: TrainingChanges = field(default_factory=TrainingChanges)
    sizes: dict[str, int] = field(default_factory=dict)
    """Sizes of every model that has them, such as width 32 depth 5, in place of the preset's."""
    compilation_cache: bool = True
    """Keep compiled programs in the user's cache folder, so that the next start is quick."""


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(Options):
    allow_trained_rows: bool = False
    """Score images that a network was trained on too; the report says how many they were."""


def is_distributed(options: Options) -> bool:
    """Whether this process is to work together with others."""
    return options.distributed or (options.coordinator, options.processes, options.process_id) != (None, None, None)


def start_jax(options: Options) -> None:
    """Before anything is computed."""
    if is_distributed(options):
        from experiments.cli.distributed import join

        join(options.coordinator, options.processes, options.process_id)
    home = os.path.normpath(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    # An account may have no home, JAX takes UTF-8 only, and a relative path is invalid by the XDG specification.
    if options.compilation_cache and home.startswith("/") and home.isprintable():
        use_cache(Path(home, "jaxnets", "xla"))


def run(main: Callable[[Any], None], options: type, *, resumes: bool = True) -> None:
    """Parses the command line into `options` and calls `main`. `resumes` says whether the same command would go on from
    where it was interrupted."""
    with in_one_line(resumes=resumes):
        script = sys.modules[main.__module__]
        given = parse(options, script.__spec__.name if script.__spec__ else script.__name__, script.__doc__)
        if isinstance(given, LogOptions):
            choose(verbose=given.verbose, quiet=given.quiet)
        main(given)


def parse(options: type, module: str, description: str | None) -> Any:
    """Parses the command line of `python -m module` into `options`; tyro's message about a wrong one, a box of many
    lines, becomes an InputError."""
    import tyro

    module, told = module.removesuffix(".__main__"), io.StringIO()
    completes = any(word.startswith("--tyro-") for word in sys.argv)  # a shell completes but commands of one word
    program = module.rpartition(".")[2] if completes else f"python -m {module}"
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
