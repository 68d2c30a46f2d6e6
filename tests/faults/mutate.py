"""Randomly changed files: the functions that read them either raise a one-line error or return the changed content."""

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

import jax
import numpy as np

from jaxnets.config import to_json
from jaxnets.data import Digits, load
from jaxnets.data.idx import IdxFile, decode_idx, encode_idx
from jaxnets.data.pixel_csv import decode_train
from jaxnets.errors import InputError
from jaxnets.recipes import smoke
from jaxnets.runs import RunConfig, outline, read_config
from jaxnets.store.bounded import decompress_gzip, read_bytes
from jaxnets.store.manifest import check_manifest, committed_folder
from jaxnets.store.train_rows import was_trained_on, write_rows
from jaxnets.store.weights import read_weights, write_weights
from tests.faults import inputs
from tests.faults.trial import Trial

SECONDS, LINE = 10, 200
RNG = np.random.default_rng(0)
PIECES = (b"\0", b"\xff", b",", b"\n", b"\r", b'"', b"nan", b"-", b"{", b"[", b"e9", b" ", b"1", "٣".encode(), b"\\u")
NUMBERS = (b"0", b"-1", b"10", b"255", b"256", b"1e3", b"3.5", b"NaN", b"9" * 20)


class Kind(NamedTuple):
    """A kind of file: its name and content, the function that reads a path, and the function that checks the result."""

    name: str
    content: bytes
    read: Callable[[Path], Any]
    judge: Callable[[Any, bytes], str]
    wrap: Callable[[bytes], bytes] = bytes
    """Packs the changed content with a matching checksum."""


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Return the content after one to three random changes."""
    for _ in range(rng.integers(1, 4)):
        content = CHANGES[rng.integers(len(CHANGES))](content, rng)
    return content


def span(content: bytes, rng: np.random.Generator) -> tuple[int, int]:
    begin = int(rng.integers(len(content) + 1))
    return begin, min(len(content), begin + int(rng.geometric(1 / 20)))


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    changed = np.frombuffer(content, np.uint8).copy()
    indices = rng.integers(max(len(content), 1), size=min(len(content), rng.integers(1, 4)))
    changed[indices] ^= np.uint8(1) << rng.integers(8, size=len(indices), dtype=np.uint8)
    return changed.tobytes()


def truncate(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(len(content) + 1)]


def delete(content: bytes, rng: np.random.Generator) -> bytes:
    begin, end = span(content, rng)
    return content[:begin] + content[end:]


def repeat(content: bytes, rng: np.random.Generator) -> bytes:
    begin, end = span(content, rng)
    return content + content if rng.random() < 0.2 else content[:end] + content[begin:]


def splice(content: bytes, rng: np.random.Generator) -> bytes:
    begin, end = span(content, rng)
    index = int(rng.integers(len(content) + 1))
    return content[:index] + content[begin:end] + content[index + end - begin :]


def renumber(content: bytes, rng: np.random.Generator) -> bytes:
    found = list(re.finditer(rb"[0-9]+", content[:100_000]))
    if not found:
        return content
    match = found[rng.integers(len(found))]
    return content[: match.start()] + NUMBERS[rng.integers(len(NUMBERS))] + content[match.end() :]


def insert(content: bytes, rng: np.random.Generator) -> bytes:
    index = int(rng.integers(len(content) + 1))
    return content[:index] + PIECES[rng.integers(len(PIECES))] + content[index:]


CHANGES = (flip, truncate, delete, repeat, splice, renumber, insert)


def table_problem(read: Any, content: bytes) -> str:
    """Compare with a slow and simple parser."""
    text = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").removesuffix(b"\n")
    header, *lines = text.decode().split("\n")
    rows = np.array([[int(field) for field in line.split(",")] for line in lines])
    images, labels = read
    same = header == inputs.HEADER.decode() and np.array_equal(rows, np.c_[labels, images.reshape(len(rows), -1)])
    legal = images.dtype == np.uint8 and rows.min() >= 0 and rows.max() <= 255 and labels.max() <= 9
    return "" if same and legal else "a table with other values"


def arrays_problem(read: Any, content: bytes) -> str:
    """Compare with NumPy, and check that labels are within range."""
    with np.load(io.BytesIO(content)) as file:
        plain = {name: file[name] for name in inputs.DIGITS if name in file.files}
    found = {name: getattr(read, name) for name in plain}
    found |= {name: found[name].reshape(plain[name].shape) for name in ("x_train", "x_test")}
    same = all(np.array_equal(found[name], array) for name, array in plain.items())
    classes = [labels for labels in (read.y_train, read.y_test) if labels is not None]
    legal = all(labels.min() >= 0 and labels.max() < read.num_classes for labels in classes)
    return "" if same and legal and len(read.x_train) == len(read.y_train) else "arrays with other values"


def config_problem(read: RunConfig, content: bytes) -> str:
    """Compare with the file, whose missing values have a default. tests/test_config.py has the ranges."""
    return "" if contains(to_json(read), json.loads(content)) else "a config with other values"


def contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(name in whole and contains(whole[name], value) for name, value in part.items())
    return bool(whole == part)


def unchanged(good: Any) -> Callable[[Any, bytes], str]:
    """Return a check that the values are unchanged, for files with a checksum."""
    return lambda read, content: "" if jax.tree.all(jax.tree.map(np.array_equal, read, good)) else "other values"


def rows_problem(read: np.ndarray, content: bytes) -> str:
    return "" if read.dtype == bool and len(read) == 6 else "not one value per image"


def read_and_check_config(path: Path) -> RunConfig:
    """Read as `runs.open_run` does."""
    config = read_config(path.parent)
    outline(path.parent, config)
    return config


def member(name: str) -> bytes:
    """Return an array as a member of an archive."""
    file = io.BytesIO()
    np.save(file, inputs.DIGITS[name])
    return file.getvalue()


def packer(name: str) -> Callable[[bytes], bytes]:
    """Return a function that packs the bytes of that array with the other arrays."""
    others = {f"{other}.npy": member(other) for other in inputs.DIGITS if other != name}
    return lambda content: inputs.zipped(**others, **{f"{name}.npy": content})


def read_csv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    return decode_train(decompress_gzip(read_bytes(path, limit=10**7), limit=10**7, location=path, fix="x"), path)


def idx_kinds() -> list[Kind]:
    """Return an idx file, raw and gzip."""
    images = RNG.integers(0, 256, (6, 28, 28), np.uint8)
    content = encode_idx(images)
    expected = IdxFile(images.shape, hashlib.sha256(content).hexdigest())

    def read(path: Path) -> np.ndarray:
        packed = read_bytes(path, limit=10**6)
        unpacked = decompress_gzip(packed, limit=expected.num_bytes, location=path, fix="x")
        return decode_idx(unpacked, expected, location=path, fix="x")

    return [
        Kind("images.idx", content, read, unchanged(images)),
        Kind("images.idx.gz", gzip.compress(content, mtime=0), read, unchanged(images)),
    ]


def model_kinds(folder: Path) -> list[Kind]:
    """Return the files of a model's folder."""
    config = RunConfig(
        recipe=smoke().recipe("senet"),
        seed=3,
        precision="float32",
        image_shape=(8, 8, 1),
        num_classes=10,
        data="x",
        data_sha256="y",
    )
    weights = {"params": {"kernel": RNG.random((8, 9), np.float32), "bias": np.zeros(9)}, "stats": np.ones(3, "f4")}
    write_weights(folder / "weights.npz", weights)
    metadata = {"history": [{"epoch": epoch, "loss": 1 / epoch} for epoch in range(1, 20)], "seed": 1}
    with committed_folder(folder / "folder", metadata) as temporary:
        (temporary / "file").write_bytes(b"content")
    manifest = (folder / "folder" / "seal.json").read_bytes()
    images = RNG.integers(0, 256, (6, 28, 28), np.uint8)
    write_rows(folder, images)
    rows = (folder / "train_rows.npy").read_bytes()
    packed = (folder / "weights.npz").read_bytes()
    return [
        Kind("weights.npz", packed, lambda path: read_weights(path, weights), unchanged(weights)),
        Kind("config.json", json.dumps(to_json(config), indent=1).encode(), read_and_check_config, config_problem),
        Kind("folder/seal.json", manifest, lambda path: check_manifest(path.parent), unchanged(metadata)),
        Kind("train_rows.npy", rows, lambda path: was_trained_on(path.parent, images), rows_problem),
    ]


def kinds(folder: Path) -> list[Kind]:
    """Return one file of each kind that is read."""

    def read_npz(path: Path) -> Digits:
        return load(str(path))

    return [
        Kind("train.csv", inputs.TRAIN, read_csv, table_problem),
        Kind("train.csv.gz", gzip.compress(inputs.TRAIN, mtime=0), read_csv, unchanged(decode_train(inputs.TRAIN, ""))),
        *idx_kinds(),
        Kind("my.npz", inputs.npz(), read_npz, arrays_problem),
        *(Kind("my.npz", member(name), read_npz, arrays_problem, packer(name)) for name in inputs.DIGITS),
        *model_kinds(folder),
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
    """Raise TimeoutError after SECONDS. The timer of pytest-timeout, on the same signal, continues afterwards."""
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
    """Return what is wrong with how a changed file was read; empty if nothing is."""
    try:
        return kind.judge(kind.read(path), content)
    except InputError as error:
        text = str(error).replace(str(path.parent), "")
        return "" if len(text) <= LINE and text.isprintable() else f"a message of {len(text)} characters: {text[:300]}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
