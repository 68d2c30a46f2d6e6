import errno
import json
import os

import numpy as np
import pytest

from jaxnets.errors import InputError
from jaxnets.store import manifest
from jaxnets.store.manifest import check_manifest, commit_folder, committed_folder, is_up_to_date, manifest_hash

METADATA = {"rows": [1, 2], "by": "hand"}


@pytest.fixture
def folder(tmp_path):
    """A committed folder with a file at the top and one below."""
    with committed_folder(tmp_path / "folder", METADATA) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "a.txt").write_text("one")
        (temporary / "deep" / "b.bin").write_bytes(bytes(range(256)))
    return tmp_path / "folder"


def test_an_undamaged_folder_returns_its_metadata(folder):
    assert check_manifest(folder) == METADATA
    assert is_up_to_date(folder, METADATA)
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "deep", "seal.json"]


def test_every_flipped_bit_is_detected(folder):
    rng = np.random.default_rng(0)
    for path in ("a.txt", "deep/b.bin"):
        content = (folder / path).read_bytes()
        for _ in range(20):
            index, bit = rng.integers(len(content)), rng.integers(8)
            changed = bytearray(content)
            changed[index] ^= 1 << bit
            (folder / path).write_bytes(changed)
            with pytest.raises(InputError, match=f"{path}: was changed after it was written"):
                check_manifest(folder)
        (folder / path).write_bytes(content)
    assert check_manifest(folder) == METADATA


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "a.txt").unlink(), "a.txt: is missing"),
        (lambda folder: (folder / "deep" / "c").touch(), "deep/c: is unexpected"),
        (lambda folder: (folder / "seal.json").unlink(), "has no seal.json"),
        (lambda folder: (folder / "seal.json").write_bytes(b""), "seal.json: is damaged"),
        (lambda folder: (folder / "seal.json").write_text("[" * 100_000), "seal.json: is damaged"),
        (lambda folder: (folder / "seal.json").write_text("[]"), "seal.json: is damaged"),
        (
            lambda folder: (folder / "seal.json").write_text('{"version": 1, "made_from": {}, "files": {}}'),
            "was changed",
        ),
        (lambda folder: (folder / "seal.json").write_text('{"version": 2}'), "has version 2, expected 1"),
        (lambda folder: (folder / "link").symlink_to("a.txt"), "link: is a link"),
        (lambda folder: (folder / "away").symlink_to("/"), "away: is a link"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe: is a link, or no regular file"),
    ],
)
def test_damage_is_reported(folder, damage, words):
    damage(folder)
    with pytest.raises(InputError, match=words):
        check_manifest(folder)
    with pytest.warns(UserWarning, match="is recomputed"):
        assert not is_up_to_date(folder, METADATA)
    with committed_folder(folder, METADATA):
        pass
    assert is_up_to_date(folder, METADATA)


def test_a_huge_manifest_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(manifest, "MAX_BYTES", 100)
    with pytest.raises(InputError, match=r"seal\.json: is damaged"):
        check_manifest(folder)


def test_an_outdated_folder_is_kept_until_its_replacement_is_complete(folder):
    other = METADATA | {"by": "machine"}
    assert not is_up_to_date(folder, other)
    with pytest.raises(ZeroDivisionError), committed_folder(folder, other):
        raise ZeroDivisionError
    assert is_up_to_date(folder, METADATA)
    with committed_folder(folder, other):
        assert is_up_to_date(folder, METADATA)
    assert is_up_to_date(folder, other)
    assert [path.name for path in folder.iterdir()] == ["seal.json"]


@pytest.mark.parametrize("call", ["fsync", "replace", "rename"])
def test_an_interrupted_commit_can_be_repeated(tmp_path, monkeypatch, call):
    """Leftovers are neither listed nor kept. `remove` does nothing, as after a kill."""

    def killed(*arguments):
        raise KeyboardInterrupt

    (tmp_path / "unfinished" / "state" / ".1.0123abcd.tmp").mkdir(parents=True)
    (tmp_path / "unfinished" / "state" / ".1.0123abcd.tmp" / "part").touch()
    (tmp_path / "unfinished" / "a.txt").write_text("one")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, killed)
        patch.setattr("jaxnets.store.atomic.remove", lambda path: None)
        with pytest.raises(KeyboardInterrupt):
            commit_folder(tmp_path / "unfinished", tmp_path / "finished", METADATA)
    commit_folder(tmp_path / "unfinished", tmp_path / "finished", METADATA)
    assert check_manifest(tmp_path / "finished") == METADATA
    assert json.loads((tmp_path / "finished" / "seal.json").read_text())["files"].keys() == {"a.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["finished"]


def test_the_manifest_hash_identifies_the_content(folder, tmp_path):
    for name, text in (("same", "one"), ("other", "two")):
        with committed_folder(tmp_path / name, METADATA) as temporary:
            (temporary / "deep").mkdir()
            (temporary / "a.txt").write_text(text)
            (temporary / "deep" / "b.bin").write_bytes(bytes(range(256)))
    assert manifest_hash(tmp_path / "same") == manifest_hash(folder) != manifest_hash(tmp_path / "other")
    assert json.loads((folder / "seal.json").read_text())["files"].keys() == {"a.txt", "deep/b.bin"}


@pytest.mark.parametrize(("call", "name"), [("hashlib.file_digest", "a.txt"), ("pathlib.Path.read_bytes", "seal.json")])
def test_a_read_error_is_not_reported_as_damage(folder, monkeypatch, call, name):
    def broken(*arguments):
        raise OSError(errno.EIO, "Input/output error", str(folder / name))

    monkeypatch.setattr(call, broken)
    with pytest.raises(InputError, match=rf"{name}: cannot be read \(Input/output error\). Fix: check"):
        check_manifest(folder)
    with pytest.warns(UserWarning, match="cannot be read"):
        assert not is_up_to_date(folder, METADATA)
