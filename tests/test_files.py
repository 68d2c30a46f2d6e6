import json

import pytest

from jaxnets.errors import InputError
from jaxnets.files import atomic_file, atomic_folder, read_json, write_json


def fill(atomic, path, error):
    """Writes a part, then fails."""
    with atomic(path) as draft:
        (draft / "a" if draft.is_dir() else draft).write_text("half")
        raise error


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_file(path) as draft:
        draft.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["a.txt"]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fill(atomic_file, path, KeyboardInterrupt)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "run"
    with atomic_folder(path) as draft:
        (draft / "a").write_text("1")
        (draft / "deep").mkdir()
        assert not path.exists()
    assert names(path) == ["a", "deep"]
    assert names(path.parent) == ["run"]


def test_a_failed_folder_vanishes(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fill(atomic_folder, tmp_path / "run", ZeroDivisionError)
    assert names(tmp_path) == []


def test_a_full_folder_is_not_replaced(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").touch()
    with pytest.raises(InputError, match="not empty"), atomic_folder(tmp_path / "run") as draft:
        (draft / "new").touch()
    assert names(tmp_path / "run") == ["old"]
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize("kind", ["mkdir", "touch"])
def test_what_a_killed_writer_left_is_removed(tmp_path, kind):
    getattr(tmp_path / ".a.txt.0123abcd.tmp", kind)()
    getattr(tmp_path / ".b.txt.0123abcd.tmp", kind)()
    with atomic_file(tmp_path / "a.txt") as draft:
        draft.write_text("whole")
    assert names(tmp_path) == [".b.txt.0123abcd.tmp", "a.txt"]


def test_json_is_indented_and_whole(tmp_path):
    path, value = tmp_path / "a.json", {"a": [1, 2.5, None], "b": "é"}
    write_json(path, value)
    assert read_json(path) == json.loads(path.read_text()) == value
    assert path.read_text().startswith('{\n  "a"')
    assert path.read_text().endswith("}\n")
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == value
    assert names(tmp_path) == ["a.json"]
