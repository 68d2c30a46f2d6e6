import errno
import os
import re
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.errors import DivergedError, InputError
from jaxnets.store import atomic, checkpoint
from jaxnets.store.checkpoint import restore, save, saved_steps
from jaxnets.store.manifest import committed_folder
from tests.faults.store import damages

State = namedtuple("State", ["step", "weights"])
METADATA = {"history": [{"loss": 0.1}]}


class KilledError(Exception):
    """Simulates a kill: nothing in the package catches it."""


def tree(value):
    weights = lambda: {"kernel": np.full((3, 2), value, np.float32), "bias": np.arange(2, dtype=np.float64)}
    return {"one": weights(), "two": State(np.int32(value), (np.ones(1), weights()))}


def assert_holds(folder, value):
    saved = restore(folder, tree(0))
    assert saved.metadata == METADATA
    jax.tree.map(np.testing.assert_array_equal, saved.items, tree(value))


@pytest.fixture
def folder(tmp_path):
    """Holds steps 1 and 2."""
    for step in (1, 2):
        save(tmp_path, step, tree(step), METADATA)
    return tmp_path


def test_the_newest_step_is_restored(folder):
    assert_holds(folder, 2)
    assert saved_steps(folder) == [1, 2]
    assert restore(folder / "empty", tree(0)) is None


def test_two_steps_are_kept_and_leftovers_removed(folder):
    for leftover in (".0.01234567.tmp", ".3.01234567.tmp"):
        (folder / leftover).mkdir()
        (folder / leftover / "part").touch()
    save(folder, 3, tree(3), METADATA)
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]
    assert_holds(folder, 3)


def test_the_step_just_saved_is_kept_and_restored(folder):
    """After the damaged steps 1 and 2 were skipped, the training continues from an earlier one."""
    save(folder, 0, tree(0), METADATA)
    assert saved_steps(folder) == [0]
    assert_holds(folder, 0)


def test_a_step_can_be_saved_again(folder):
    save(folder, 2, tree(5), METADATA)
    assert_holds(folder, 5)


def test_a_single_item_is_restored(folder):
    like = {"one": jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree(0)["one"])}
    saved = restore(folder, like)
    jax.tree.map(np.testing.assert_array_equal, saved.items, {"one": tree(2)["one"]})


def test_a_folder_may_have_any_name(tmp_path):
    odd = "".join(map(chr, range(1, 128))).replace("/", "") + "[a]*?\udcff"
    folder = tmp_path / odd / "gs:" / "state"
    save(folder, 1, tree(1), METADATA)
    assert_holds(folder, 1)
    assert [path.name for path in tmp_path.iterdir()] == [odd]
    assert sorted(path.name for path in folder.iterdir()) == ["1"]


def write_fails(call, *arguments):
    """Return whether the call raised the InputError of a failed write."""
    try:
        call(*arguments)
    except InputError as error:
        return "cannot be written" in str(error)
    return False


def test_a_damaged_step_is_skipped_with_one_warning(tmp_path):
    trials = list(damages(tmp_path, np.random.default_rng(0), 40))
    assert [trial.failure for trial in trials if trial.failure] == []
    assert sum(trial.struck for trial in trials) > 35


def test_without_an_undamaged_step_an_error_is_raised(folder):
    for step in "12":
        (folder / step / "seal.json").unlink()
    with pytest.warns(UserWarning, match="step 2"), pytest.raises(InputError, match=r"1: has no seal\.json"):
        restore(folder, tree(0))


def test_a_kill_while_an_old_step_is_deleted(folder, monkeypatch):
    def killed(path):
        if path.exists():
            (path / "seal.json").unlink()
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "remove", killed)
        with pytest.raises(KilledError):
            save(folder, 3, tree(3), METADATA)
    assert_holds(folder, 3)
    save(folder, 4, tree(4), METADATA)
    assert sorted(path.name for path in folder.iterdir()) == ["3", "4"]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # by Orbax, when it gives up
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("call", "every"), [("fsync", 5), ("rename", 1), ("replace", 1), ("mkdir", 1), ("scandir", 5)])
def test_an_error_at_any_call_of_a_save_loses_no_step(folder, monkeypatch, call, every):
    """The K-th call fails, for every K or every fifth: the steps before are undamaged, and the next save works."""
    failed = True
    for position in range(1, 200, every):
        if not failed:
            break
        count, failed, real = 0, False, getattr(os, call)

        def fails(*arguments, real=real, position=position, **options):
            nonlocal count, failed
            count += 1
            if count == position:
                failed = True
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments, **options)

        step = 10 * position
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fails)
            saved = not write_fails(save, folder, step, tree(step), METADATA)
        newest = saved_steps(folder)[-1]
        assert newest == step or not saved
        assert_holds(folder, newest)
        save(folder, step + 1, tree(step + 1), METADATA)
        assert_holds(folder, step + 1)
    assert position > 2


def test_a_failed_readback_is_detected(folder, monkeypatch):
    monkeypatch.setattr(checkpoint, "read", lambda path, like: tree(7))
    with pytest.raises(InputError, match="reading it back gave other values"):
        save(folder, 3, tree(3), METADATA)
    monkeypatch.undo()
    assert_holds(folder, 2)


def test_free_space_is_checked_first(folder, monkeypatch):
    usage = namedtuple("usage", ["free"])
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: usage(10))
    with pytest.raises(InputError, match=r"0\.0 MiB are needed, 0\.0 MiB are free. Fix: free some"):
        save(folder, 3, tree(3), METADATA)
    assert saved_steps(folder) == [1, 2]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_not_written(folder, value):
    items = tree(3)
    items["two"].weights[1]["kernel"][1, 1] = value
    with pytest.raises(DivergedError, match="two/weights/1/kernel is not finite at step 3"):
        save(folder, 3, items, METADATA)
    assert_holds(folder, 2)


def test_differences_from_another_model_are_reported(folder):
    like = tree(0)
    like["one"] = {"kernel": np.zeros((3, 2), np.float16), "scale": np.zeros(2)}
    with pytest.raises(InputError) as error:
        restore(folder, like)
    assert "one/bias is float64 (2,), expected none; " in str(error.value)
    assert "one/kernel is float32 (3, 2), expected float16 (3, 2); " in str(error.value)
    assert "one/scale is missing, expected float64 (2,)" in str(error.value)
    assert "more" not in str(error.value)
    assert "\n" not in str(error.value)


WEIGHTS = {"bias": np.ones(2, "f4"), "kernel": np.ones((3, 2), "f4"), "step": np.int32(7)}


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["NumPy", "JAX"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kernel": np.ones((3, 2), "f2")}, "kernel is float32 (3, 2), expected float16 (3, 2)"),
        ({"kernel": np.ones((3, 2), jnp.bfloat16)}, "kernel is float32 (3, 2), expected bfloat16 (3, 2)"),
        ({"kernel": np.ones((2, 3), "f4")}, "kernel is float32 (3, 2), expected float32 (2, 3)"),
        ({"kernel": np.ones((4, 2), "f4")}, "kernel is float32 (3, 2), expected float32 (4, 2)"),
        ({"kernel": {"a": np.ones((3, 2), "f4")}}, "kernel is float32 (3, 2), expected none; one/kernel/a is missing"),
        ({"step": np.ones(1, "i4")}, "step is int32 (), expected int32 (1,)"),
        ({"scale": np.ones(2, "f4")}, "scale is missing, expected float32 (2,)"),
    ],
)
def test_no_array_is_cast_or_cut_to_fit(tmp_path, kind, change, words):
    save(tmp_path, 1, {"one": jax.tree.map(kind, WEIGHTS)}, METADATA)
    with pytest.raises(InputError, match=re.escape(f"holds another model: one/{words}")) as error:
        restore(tmp_path, {"one": jax.tree.map(kind, WEIGHTS | change)})
    assert "\n" not in str(error.value)


def test_another_committed_folder_is_not_a_step(tmp_path):
    with committed_folder(tmp_path / "1", {"views": 3}):
        pass
    with pytest.raises(InputError, match="is not a training step"):
        restore(tmp_path, tree(0))


def test_a_missing_device_is_not_reported_as_damage(folder, monkeypatch):
    def fail():
        raise RuntimeError("no such plugin")

    monkeypatch.setattr(jax, "devices", fail)
    with pytest.raises(InputError, match="JAX_PLATFORMS: there is no device of that kind"):
        restore(folder, tree(0))
