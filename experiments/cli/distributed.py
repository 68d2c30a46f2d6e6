"""Distributed training: joining the processes, barriers, and stopping all of them at the same step.

Each process has its own devices, and `pmap` spans all of them.
"""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jaxnets.errors import InputError

from . import exit_codes

HEARTBEAT_SECONDS = 30
"""Seconds without a heartbeat of JAX's after which the other processes count a process as dead."""
SUPERVISED_HEARTBEAT_SECONDS = 86_400
"""The same under `launch`, which notices dead processes itself: suspended processes must not count as dead."""


def join(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    """Join the other processes, before JAX computes anything; a cluster manager provides what is None. Raises
    InputError if the arguments do not fit together, or if the processes do not find each other."""
    import jax

    check_arguments(coordinator, processes, process_id)
    exit_codes.single_process = False
    is_supervised = exit_codes.heartbeat is not None
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process_id,
            # Within a SLURM allocation JAX would use one device only, even if the coordinator is given.
            cluster_detection_method=None if coordinator is None else "deactivate",
            # JAX binds to all interfaces by default.
            coordinator_bind_address=coordinator if is_loopback(coordinator) else None,
            heartbeat_timeout_seconds=SUPERVISED_HEARTBEAT_SECONDS if is_supervised else HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        problem = f"the processes did not find each other ({' '.join(str(error).split())[:100]})"
        raise InputError("--coordinator", problem, "start all of them, with the same address") from error
    if jax.process_index() > 0:
        sys.stdout = open(os.devnull, "w", errors="backslashreplace")  # noqa: SIM115 - until the process ends


def check_arguments(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    """Raise InputError unless all three are given, or none, and fit together."""
    arguments = (coordinator, processes, process_id)
    if None in arguments and arguments != (None, None, None):
        raise InputError("--coordinator", "needs --processes and --process-id", "give all three, or use launch")
    if coordinator is not None and not re.fullmatch(".+:[0-9]{1,5}", coordinator):
        raise InputError("--coordinator", f"is {coordinator!r:.60}", "give HOST:PORT")
    if processes is not None and process_id is not None and not 0 <= process_id < processes:
        raise InputError("--process-id", f"is {process_id} of {processes} processes", "count them from 0")


def is_loopback(coordinator: str | None) -> bool:
    """Return whether the address is reachable from this machine only."""
    return coordinator is not None and coordinator.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]")


def barrier(name: str) -> None:
    """Wait until all processes have called this with the same name."""
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def synchronized_stop(local_stop: Callable[[], bool]) -> Callable[[], bool]:
    """Return should_stop(), to be called after every step: it returns True at the same step in all processes.

    `local_stop` tells whether this process received a signal. JAX notifies the other processes of a SIGTERM only.
    """
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return local_stop
    calls, notified, stopped = 0, False, False

    def should_stop() -> bool:
        nonlocal calls, notified, stopped
        calls += 1
        if local_stop() and not notified:
            notified = True
            os.kill(os.getpid(), signal.SIGTERM)
        stopped = stopped or multihost_utils.reached_preemption_sync_point(calls)
        return stopped

    return should_stop


@contextmanager
def heartbeats(file: Path | None) -> Iterator[Callable[[str], object]]:
    """Yield heartbeat(text), which writes the progress to the heartbeat file, if there is one.

    The supervisor expects steps within the block only: the file is empty afterwards.
    """

    def heartbeat(text: str) -> None:
        with suppress(OSError):  # the supervisor may have removed its directory: no reason to end a training
            Path(file or os.devnull).write_text(text)

    try:
        yield heartbeat
    finally:
        heartbeat("")
