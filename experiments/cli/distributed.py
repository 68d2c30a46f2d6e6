"""Several processes, one job: how they find each other, who writes, and how they stop at the same step. JAX does the
rest: each process has its own devices, and `pmap` spans them all."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from experiments.cli import exit_codes
from jaxnets.errors import InputError

HEARTBEAT = 30
"""Seconds after which the others notice that a process is dead."""
DAY = 86_400
"""The same under `launch`, which notices it itself: processes that a scheduler suspends together are not dead."""


def join(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    """Joins the others, before JAX computes anything; a cluster's manager knows what is not given."""
    import jax

    given = (coordinator, processes, process_id)
    if None in given and given != (None, None, None):
        raise InputError("--coordinator", "needs --processes and --process-id", "give all three, or let launch do it")
    if coordinator is not None and not re.fullmatch(".+:[0-9]{1,5}", coordinator):
        raise InputError("--coordinator", f"is {coordinator!r:.60}", "give HOST:PORT")
    if processes is not None and process_id is not None and not 0 <= process_id < processes:
        raise InputError("--process-id", f"is {process_id} of {processes} processes", "count them from 0")
    exit_codes.alone = False
    try:
        # Within a SLURM allocation JAX would see one device alone, whoever says where the coordinator is.
        method = None if coordinator is None else "deactivate"
        jax.distributed.initialize(
            *given,
            cluster_detection_method=method,
            coordinator_bind_address=coordinator if is_loopback(coordinator) else None,
            heartbeat_timeout_seconds=HEARTBEAT if exit_codes.heartbeat is None else DAY,
        )
    except (ValueError, RuntimeError) as error:
        problem = f"the processes did not find each other ({' '.join(str(error).split())[:100]})"
        raise InputError("--coordinator", problem, "start all of them, with the same address") from error
    if jax.process_index() > 0:
        sys.stdout = open(os.devnull, "w", errors="backslashreplace")  # noqa: SIM115 - for as long as the process lives


def is_loopback(coordinator: str | None) -> bool:
    """Whether that address is this machine's own: then nobody else need be let in, as JAX would."""
    return coordinator is not None and coordinator.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]")


def barrier(place: str) -> None:
    """Waits until all processes are here."""
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(place)


def synchronized_stop(alone: Callable[[], bool]) -> Callable[[], bool]:
    """-> what tells whether to stop, at the same step in all processes; `alone` tells it where there is one. JAX tells
    the others of a SIGTERM, but of no Ctrl-C."""
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return alone
    calls, told, reached = 0, False, False

    def stopping() -> bool:
        nonlocal calls, told, reached
        calls += 1
        if alone() and not told:
            told = True
            os.kill(os.getpid(), signal.SIGTERM)
        reached = reached or multihost_utils.reached_preemption_sync_point(calls)
        return reached

    return stopping


@contextmanager
def heartbeats() -> Iterator[Callable[[str], object]]:
    """Yields what tells the process that started this one, if it watches, how far this one is; only meanwhile is it
    expected to make steps."""

    def tell(text: str) -> None:
        with suppress(OSError):  # its place may have been cleaned away: no reason to end a training
            Path(exit_codes.heartbeat or os.devnull).write_text(text)

    try:
        yield tell
    finally:
        tell("")
