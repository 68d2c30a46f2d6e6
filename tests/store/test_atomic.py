import errno
import json
import os

import pytest

from jaxnets.errors import InputError
from jaxnets.store.atomic import atomic_file, atomic_folder, read_json, write_json


def fail_midway(atomic, path, error):
    """Write a part, then raise."""
    with atomic(path) as temporary:
        (temporary / "a" if temporary.is_dir() else temporary).write_text("half")
        raise error


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["a.txt"]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail_midway(atomic_file, path, KeyboardInterrupt)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "run"
    with atomic_folder(path) as temporary:
        (temporary / "a").write_text("1")
        (temporary / "deep").mkdir()
        assert not path.exists()
    assert names(path) == ["a", "deep"]
    assert names(path.parent) == ["run"]


def test_a_failed_folder_is_removed(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fail_midway(atomic_folder, tmp_path / "run", ZeroDivisionError)
    assert names(tmp_path) == []


def test_a_folder_is_replaced_only_by_a_complete_one(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(ZeroDivisionError):
        fail_midway(atomic_folder, path, ZeroDivisionError)
    assert names(path) == ["old"]
    with atomic_folder(path) as temporary:
        (temporary / "new").touch()
        assert names(path) == ["old"]
    assert names(path) == ["new"]
    assert names(tmp_path) == ["run"]


def test_a_full_disk_keeps_the_old_folder(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").touch()

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("jaxnets.store.atomic.flush_to_disk", full)
    with pytest.raises(InputError, match="No space left"), atomic_folder(tmp_path / "run") as temporary:
        (temporary / "new").touch()
    assert names(tmp_path / "run") == ["old"]
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize("kind", ["mkdir", "touch"])
def test_abandoned_temporary_files_are_removed_whatever_their_name(tmp_path, kind):
    """A name may contain the process ID of another container or host, which may also be in use here."""
    old, new = ([f".a.txt.{owner}.{age}.tmp" for owner in (1, os.getpid(), 2**22 + 1)] for age in ("old", "new"))
    for name in [*old, *new, ".b.txt.1.old.tmp"]:
        getattr(tmp_path / name, kind)()
    for name in [*old, ".b.txt.1.old.tmp"]:
        os.utime(tmp_path / name, (0, 0))
    with atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == sorted([*new, ".b.txt.1.old.tmp", "a.txt"])


def test_two_writers_of_one_file_do_not_interfere(tmp_path):
    with atomic_file(tmp_path / "a.txt") as first:
        first.write_text("first")
        with atomic_file(tmp_path / "a.txt") as second:
            second.write_text("second")
        assert (tmp_path / "a.txt").read_text() == "second"
    assert (tmp_path / "a.txt").read_text() == "first"


def test_json_is_indented_and_complete(tmp_path):
    path, value = tmp_path / "a.json", {"a": [1, 2.5, None], "b": "é"}
    write_json(path, value)
    assert read_json(path) == json.loads(path.read_text()) == value
    assert path.read_text().startswith('{\n  "a"')
    assert path.read_text().endswith("}\n")
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == value
    assert names(tmp_path) == ["a.json"]
