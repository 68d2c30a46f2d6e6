import errno
import json
import os

import numpy as np
import pytest

from jaxnets.errors import InputError
from jaxnets.store import manifest
from jaxnets.store.manifest import check, identity, is_up_to_date, seal_into_place, sealed_folder

ORIGIN = {"rows": [1, 2], "by": "hand"}


@pytest.fixture
def sealed(tmp_path):
    """A sealed folder with a file above and one below."""
    with sealed_folder(tmp_path / "sealed", ORIGIN) as draft:
        (draft / "deep").mkdir()
        (draft / "a.txt").write_text("one")
        (draft / "deep" / "b.bin").write_bytes(bytes(range(256)))
    return tmp_path / "sealed"


def test_a_whole_folder_says_what_it_was_made_from(sealed):
    assert check(sealed) == ORIGIN
    assert is_up_to_date(sealed, ORIGIN)
    assert sorted(path.name for path in sealed.iterdir()) == ["a.txt", "deep", "seal.json"]


@pytest.mark.parametrize("read", [check, identity])
def test_a_missing_folder_need_not_be_deleted(read, tmp_path):
    with pytest.raises(InputError, match=r"absent: is missing. Fix: run"):
        read(tmp_path / "absent")


def test_every_flipped_bit_is_seen(sealed):
    rng = np.random.default_rng(0)
    for path in ("a.txt", "deep/b.bin"):
        content = (sealed / path).read_bytes()
        for _ in range(20):
            place, bit = rng.integers(len(content)), rng.integers(8)
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            (sealed / path).write_bytes(changed)
            with pytest.raises(InputError, match=f"{path}: was changed after it was written"):
                check(sealed)
        (sealed / path).write_bytes(content)
    assert check(sealed) == ORIGIN


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "a.txt").unlink(), "a.txt: is missing"),
        (lambda folder: (folder / "deep" / "c").touch(), "deep/c: does not belong there. Fix: remove it"),
        (lambda folder: (folder / "seal.json").unlink(), "has no seal"),
        (lambda folder: (folder / "seal.json").write_bytes(b""), "seal.json: is damaged"),
        (lambda folder: (folder / "seal.json").write_text("[" * 100_000), "seal.json: is damaged"),
        (lambda folder: (folder / "seal.json").write_text('{"version": 1, "made_from": {}, "files": []}'), "no files"),
        (lambda folder: (folder / "seal.json").write_text('{"version": 2}'), "is of version 2, not 1"),
        (lambda folder: (folder / "link").symlink_to("a.txt"), "link: is a link"),
        (lambda folder: (folder / "away").symlink_to("/"), "away: is a link"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe: is a link or no plain file"),
    ],
)
def test_damage_is_named(sealed, damage, words):
    damage(sealed)
    with pytest.raises(InputError, match=words):
        check(sealed)
    with pytest.warns(UserWarning, match="is made anew"):
        assert not is_up_to_date(sealed, ORIGIN)
    with sealed_folder(sealed, ORIGIN):
        pass
    assert is_up_to_date(sealed, ORIGIN)


def test_a_huge_seal_is_not_read(sealed, monkeypatch):
    monkeypatch.setattr(manifest, "LIMIT", 100)
    with pytest.raises(InputError, match=r"seal\.json: is damaged"):
        check(sealed)


def test_what_was_made_from_something_else_stays_until_another_is_whole(sealed):
    other = ORIGIN | {"by": "machine"}
    assert not is_up_to_date(sealed, other)
    with pytest.raises(ZeroDivisionError), sealed_folder(sealed, other):
        raise ZeroDivisionError
    assert is_up_to_date(sealed, ORIGIN)
    with sealed_folder(sealed, other):
        assert is_up_to_date(sealed, ORIGIN)
    assert is_up_to_date(sealed, other)
    assert [path.name for path in sealed.iterdir()] == ["seal.json"]


def test_a_folder_that_failed_is_not_there(tmp_path):
    with pytest.raises(ZeroDivisionError), sealed_folder(tmp_path / "sealed", ORIGIN):
        raise ZeroDivisionError
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["fsync", "replace", "rename"])
def test_sealing_can_be_interrupted_and_repeated(tmp_path, monkeypatch, call):
    """Whatever the interrupted attempt left is neither listed nor kept; `remove` does nothing, as after a kill."""

    def killed(*arguments):
        raise KeyboardInterrupt

    (tmp_path / "unfinished" / "best" / ".1.0123abcd.tmp").mkdir(parents=True)
    (tmp_path / "unfinished" / "best" / ".1.0123abcd.tmp" / "part").touch()
    (tmp_path / "unfinished" / "a.txt").write_text("one")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, killed)
        patch.setattr("jaxnets.store.atomic.remove", lambda path: None)
        with pytest.raises(KeyboardInterrupt):
            seal_into_place(tmp_path / "unfinished", tmp_path / "finished", ORIGIN)
    seal_into_place(tmp_path / "unfinished", tmp_path / "finished", ORIGIN)
    assert check(tmp_path / "finished") == ORIGIN
    assert json.loads((tmp_path / "finished" / "seal.json").read_text())["files"].keys() == {"a.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["finished"]


def test_identities_tell_folders_apart(sealed, tmp_path):
    for name, text in (("same", "one"), ("other", "two")):
        with sealed_folder(tmp_path / name, ORIGIN) as draft:
            (draft / "deep").mkdir()
            (draft / "a.txt").write_text(text)
            (draft / "deep" / "b.bin").write_bytes(bytes(range(256)))
    assert identity(tmp_path / "same") == identity(sealed) != identity(tmp_path / "other")
    assert json.loads((sealed / "seal.json").read_text())["files"].keys() == {"a.txt", "deep/b.bin"}


@pytest.mark.parametrize(("call", "name"), [("hashlib.file_digest", "a.txt"), ("pathlib.Path.read_bytes", "seal.json")])
def test_what_cannot_be_read_is_not_to_be_deleted(sealed, monkeypatch, call, name):
    def broken(*arguments):
        raise OSError(errno.EIO, "Input/output error", str(sealed / name))

    monkeypatch.setattr(call, broken)
    with pytest.raises(InputError, match=rf"{name}: cannot be read \(Input/output error\). Fix: check"):
        check(sealed)
    with pytest.warns(UserWarning, match="cannot be read"):
        assert not is_up_to_date(sealed, ORIGIN)
