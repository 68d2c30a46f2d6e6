import errno
import multiprocessing
import os

import pytest

from jaxnets.errors import InputError
from jaxnets.store.lock import locked


def test_one_holder_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train", "--out", "a folder"])
    path = tmp_path / "new" / ".lock"
    for _ in range(2):
        with locked(path):
            holder = rf"process {os.getpid()} on \S+ since .*: train --out 'a folder'\."
            with pytest.raises(InputError, match=holder), locked(path):
                raise AssertionError
            assert path.exists()
        assert not path.exists()


def test_an_error_releases_the_lock(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / ".lock"):
        raise ZeroDivisionError
    with locked(tmp_path / ".lock"):
        pass


def add_one(path, counter, times):
    """Increment a counter in a file; two processes at a time would lose increments."""
    done = 0
    while done < times:
        try:
            with locked(path):
                counter.write_text(str(int(counter.read_text()) + 1))
                done += 1
        except InputError:
            pass


def test_two_processes_never_hold_it_at_once(tmp_path):
    """Each holder removes the file, so a process may lock one that has lost its name."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=add_one, args=(tmp_path / ".lock", counter, 100)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert counter.read_text() == "300"


def test_the_file_of_a_dead_holder_is_no_lock(tmp_path):
    (tmp_path / ".lock").write_text("process 1 on moon since yesterday: python\n" * 1000)
    with locked(tmp_path / ".lock"):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()
        assert "moon" not in (tmp_path / ".lock").read_text()


def test_a_file_system_without_locks_is_reported(tmp_path, monkeypatch):
    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(InputError) as error, locked(tmp_path / ".lock"):
        raise AssertionError
    expected = f"{tmp_path}: cannot be locked (No locks available). Fix: choose a folder on a local disk."
    assert str(error.value) == expected


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "theirs").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "theirs")
    with pytest.raises(InputError, match=r"\.lock: cannot be written"), locked(tmp_path / ".lock"):
        raise AssertionError
    assert (tmp_path / "theirs").read_text() == "precious"


def test_the_command_may_contain_any_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train", "--out", b"caf\xe9".decode(errors="surrogateescape")])
    with locked(tmp_path / ".lock"):
        assert "caf" in (tmp_path / ".lock").read_text()
