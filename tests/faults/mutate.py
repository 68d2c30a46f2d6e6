"""Files changed at random, through the functions that read them: refused in one line, or read as what they now say."""

import gzip
import hashlib
import io
import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.config import to_json
from jaxnets.data import load
from jaxnets.data.idx import IdxFile, decode_idx, encode_idx
from jaxnets.data.pixel_csv import decode_train
from jaxnets.data.submission import read_submission
from jaxnets.errors import InputError
from jaxnets.models import MODELS
from jaxnets.recipes import smoke
from jaxnets.runs import RunConfig, outline, read_config
from jaxnets.store.bounded import inflate, read_bytes
from jaxnets.store.manifest import check, sealed_folder
from jaxnets.store.train_rows import was_trained_on, write_rows
from jaxnets.store.weights import read_weights, write_weights
from tests.faults import inputs
from tests.faults.trial import Trial

SECONDS, LINE = 10, 200
RNG = np.random.default_rng(0)
PIECES = (b"\0", b"\xff", b",", b"\n", b"\r", b'"', b"nan", b"-", b"{", b"[", b"e9", b" ", b"1", "٣".encode(), b"\\u")
NUMBERS = (b"0", b"-1", b"10", b"255", b"256", b"1e3", b"3.5", b"NaN", b"9" * 20)


class Kind(NamedTuple):
    """A file: its name, what stands in it, what reads it given its path, and what is wrong with what was read."""

    name: str
    content: bytes
    read: Callable[[Path], Any]
    judge: Callable[[Any, bytes], str]
    wrap: Callable[[bytes], bytes] = bytes
    """Packs what was changed, under a check sum that fits."""


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three changes."""
    for _ in range(rng.integers(1, 4)):
        content = CHANGES[rng.integers(len(CHANGES))](content, rng)
    return content


def span(content: bytes, rng: np.random.Generator) -> tuple[int, int]:
    begin = int(rng.integers(len(content) + 1))
    return begin, min(len(content), begin + int(rng.geometric(1 / 20)))


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    changed = np.frombuffer(content, np.uint8).copy()
    places = rng.integers(max(len(content), 1), size=min(len(content), rng.integers(1, 4)))
    changed[places] ^= np.uint8(1) << rng.integers(8, size=len(places), dtype=np.uint8)
    return changed.tobytes()


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(len(content) + 1)]


def leave_out(content: bytes, rng: np.random.Generator) -> bytes:
    begin, end = span(content, rng)
    return content[:begin] + content[end:]


def double(content: bytes, rng: np.random.Generator) -> bytes:
    begin, end = span(content, rng)
    return content + content if rng.random() < 0.2 else content[:end] + content[begin:]


def splice(content: bytes, rng: np.random.Generator) -> bytes:
    begin, end = span(content, rng)
    place = int(rng.integers(len(content) + 1))
    return content[:place] + content[begin:end] + content[place + end - begin :]


def renumber(content: bytes, rng: np.random.Generator) -> bytes:
    found = list(re.finditer(rb"[0-9]+", content[:100_000]))
    if not found:
        return content
    match = found[rng.integers(len(found))]
    return content[: match.start()] + NUMBERS[rng.integers(len(NUMBERS))] + content[match.end() :]


def insert(content: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(len(content) + 1))
    return content[:place] + PIECES[rng.integers(len(PIECES))] + content[place:]


CHANGES = (flip, cut, leave_out, double, splice, renumber, insert)


def table_problem(read: Any, content: bytes) -> str:
    """Whether the slow and plain reading of a table gives the same."""
    text = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").removesuffix(b"\n")
    header, *lines = text.decode().split("\n")
    rows = np.array([[int(field) for field in line.split(",")] for line in lines])
    images, labels = read
    same = header == inputs.HEADER.decode() and np.array_equal(rows, np.c_[labels, images.reshape(len(rows), -1)])
    legal = images.dtype == np.uint8 and rows.min() >= 0 and rows.max() <= 255 and labels.max() <= 9
    return "" if same and legal else "a table that says something else"


def arrays_problem(read: Any, content: bytes) -> str:
    """Whether NumPy reads the same, and every value is one that it may be."""
    with np.load(io.BytesIO(content)) as file:
        plain = {name: file[name] for name in inputs.DIGITS if name in file.files}
    found = {name: getattr(read, name) for name in plain}
    found |= {name: found[name].reshape(plain[name].shape) for name in ("x_train", "x_test")}
    same = all(np.array_equal(found[name], array) for name, array in plain.items())
    classes = [labels for labels in (read.y_train, read.y_test) if labels is not None]
    legal = all(labels.min() >= 0 and labels.max() < read.num_classes for labels in classes)
    return "" if same and legal and len(read.x_train) == len(read.y_train) else "arrays that say something else"


def config_problem(read: RunConfig, content: bytes) -> str:
    """Whether it holds what the file says, and can be meant; what the file leaves out has a default."""
    if not holds(to_json(read), json.loads(content)):
        return "a config that says something else"
    sizes = read.recipe.sizes
    legal = read.recipe.family in MODELS and all(isinstance(size, int) and size > 0 for size in sizes.values())
    if not legal or read.seed < 0 or read.num_classes < 2:
        return "an impossible config"
    return "" if all(0 <= number < np.inf for number in numbers(to_json(read))) else "an impossible number"


def numbers(value: Any) -> list[float]:
    """All that stand in a piece of JSON."""
    if isinstance(value, dict | list):
        return [number for item in (value.values() if isinstance(value, dict) else value) for number in numbers(item)]
    return [value] if isinstance(value, int | float) else []


def holds(all_of_it: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(name in all_of_it and holds(all_of_it[name], value) for name, value in part.items())
    return bool(all_of_it == part)


def same(good: Any) -> Callable[[Any, bytes], str]:
    """What carries a check sum reads as before, or not at all."""
    return lambda read, content: "" if equal(read, good) else "other values"


def equal(one: Any, other: Any) -> bool:
    if isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in other)
    if isinstance(other, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(np.array_equal(one, other))


def answers_problem(read: np.ndarray, content: bytes) -> str:
    """Whether each id of 1 to T has the class that stands beside it."""
    text = content.decode().removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n")
    rows = sorted((int(number), int(label)) for number, label in (line.split(",") for line in text.split("\n")[1:]))
    return "" if rows == list(enumerate(read.tolist(), 1)) else "answers that say something else"


def rows_problem(read: np.ndarray, content: bytes) -> str:
    return "" if read.dtype == bool and len(read) == 6 else "no answer for each image"


def described(path: Path) -> RunConfig:
    """As `runs.open_run` does."""
    config = read_config(path.parent)
    outline(path.parent, config)
    return config


def stored(path: Path, like: Any) -> Any:
    """As `runs.open_run` does."""
    try:
        return read_weights(path, like)
    except ValueError as error:
        raise InputError(path, str(error), "fetch it again") from error


def member(name: str) -> bytes:
    """One array as it stands in an archive."""
    file = io.BytesIO()
    np.save(file, inputs.DIGITS[name])
    return file.getvalue()


def packer(name: str) -> Callable[[bytes], bytes]:
    """-> what puts the bytes of that array among the others."""
    others = {f"{other}.npy": member(other) for other in inputs.DIGITS if other != name}
    return lambda content: inputs.zipped(**others, **{f"{name}.npy": content})


def kinds(folder: Path) -> list[Kind]:
    """One of each kind of file that is read, in folders of their own."""
    images = RNG.integers(0, 256, (6, 28, 28), np.uint8)
    idx = encode_idx(images)
    want = IdxFile(images.shape, hashlib.sha256(idx).hexdigest())
    unpack = lambda path: inflate(read_bytes(path, limit=10**6), limit=want.num_bytes, place=path, fix="x")
    read_idx = lambda path: decode_idx(unpack(path), want, place=path, fix="x")
    table = lambda path: decode_train(inflate(read_bytes(path, limit=10**7), limit=10**7, place=path, fix="x"), path)
    read_npz = lambda path: load(str(path))
    whole = decode_train(inputs.TRAIN, "")
    recipe = smoke().recipe("senet")
    config = RunConfig(
        recipe=recipe, seed=3, precision="float32", image_shape=(8, 8, 1), num_classes=10, data="x", data_sha256="y"
    )
    weights = {"params": {"kernel": RNG.random((8, 9), np.float32), "bias": np.zeros(9)}, "stats": np.ones(3, "f4")}
    write_weights(folder / "weights.npz", weights)
    facts = {"history": [{"epoch": epoch, "loss": 1 / epoch} for epoch in range(1, 20)], "seed": 1}
    with sealed_folder(folder / "sealed", facts) as draft:
        (draft / "file").write_bytes(b"content")
    write_rows(folder, images)
    rows = lambda path: was_trained_on(path.parent, images)
    submission = b"ImageId,Label\n" + b"".join(b"%d,%d\n" % (row, row % 7) for row in range(1, 30))
    seal = (folder / "sealed" / "seal.json").read_bytes()
    return [
        Kind("train.csv", inputs.TRAIN, table, table_problem),
        Kind("train.csv.gz", gzip.compress(inputs.TRAIN, mtime=0), table, same(whole)),
        Kind("images.idx", idx, read_idx, same(images)),
        Kind("images.idx.gz", gzip.compress(idx, mtime=0), read_idx, same(images)),
        Kind("my.npz", inputs.npz(), read_npz, arrays_problem),
        *(Kind("my.npz", member(name), read_npz, arrays_problem, packer(name)) for name in inputs.DIGITS),
        Kind("weights.npz", (folder / "weights.npz").read_bytes(), lambda path: stored(path, weights), same(weights)),
        Kind(
            "config.json",
            json.dumps(to_json(config), indent=1).encode(),
            described,
            config_problem,
        ),
        Kind("sealed/seal.json", seal, lambda path: check(path.parent), same(facts)),
        Kind("train_rows.npy", (folder / "train_rows.npy").read_bytes(), rows, rows_problem),
        Kind("submission.csv", submission, read_submission, answers_problem),
    ]


def mutations(folder: Path, rng: np.random.Generator, trials: int) -> Iterator[Trial]:
    files = kinds(folder)
    for trial in range(trials):
        kind = files[trial % len(files)]
        content = mutate(kind.content, rng)
        struck = content != kind.content
        content = kind.wrap(content)
        path = folder / kind.name
        path.write_bytes(content)
        with limited():
            failure = outcome(kind, path, content)
        yield Trial(struck, f"{kind.name} {trial}: {failure}" if failure else "")


@contextmanager
def limited() -> Iterator[None]:
    """Ends what takes longer than a file may; whoever watches this process by the same signal goes on afterwards."""
    before = signal.signal(signal.SIGALRM, too_long)
    left, _ = signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.signal(signal.SIGALRM, before)


def too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def outcome(kind: Kind, path: Path, content: bytes) -> str:
    """What is wrong with how a changed file was read; empty if nothing is."""
    try:
        return kind.judge(kind.read(path), content)
    except InputError as error:
        text = str(error).replace(str(path.parent), "")
        return "" if len(text) <= LINE and text.isprintable() else f"told in {len(text)} characters: {text[:300]}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
