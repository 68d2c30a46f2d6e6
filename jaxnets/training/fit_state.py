"""What a checkpoint of a training holds, and how it is saved and restored."""

from pathlib import Path
from typing import Any, NamedTuple

from jaxnets.devices import is_primary
from jaxnets.errors import InputError
from jaxnets.runs import RunConfig
from jaxnets.store import checkpoint
from jaxnets.store.fingerprint import check_same_environment
from jaxnets.training.history import Row, write_history
from jaxnets.training.parallel import Metrics
from jaxnets.training.step import TrainState


class FitState(NamedTuple):
    """What a checkpoint holds. A training may be stopped within an epoch: `part` and `seconds` belong to the current
    one."""

    state: TrainState
    history: list[Row]
    """One row per finished epoch."""
    part: dict[str, list[float]]
    """Metrics of the finished steps of the current epoch; empty if an epoch was just finished."""
    seconds: float
    """Training time of the current epoch."""
    fingerprints: list[dict[str, Any]]
    """Environment fingerprints of all processes that have trained this model."""

    @property
    def steps(self) -> int:
        """Finished steps of the current epoch."""
        return len(self.part.get("loss", []))

    def add_steps(self, state: TrainState, metrics: Metrics, seconds: float) -> "FitState":
        part = {name: [*self.part.get(name, []), *map(float, values)] for name, values in metrics.items()}
        return self._replace(state=state, part=part, seconds=self.seconds + seconds)

    def add_epoch(self, state: TrainState, row: Row) -> "FitState":
        return FitState(state, [*self.history, row], {}, 0.0, self.fingerprints)


def to_items(state: TrainState) -> dict[str, Any]:
    """Return the trees of a checkpoint by their names on disk. The EMA is a separate tree, so that `open_run` reads
    nothing else; its name on disk is "average"."""
    rest = state._asdict()
    return {"average": rest.pop("ema"), "rest": {**rest, "average": {}}}


def from_items(items: dict[str, Any]) -> TrainState:
    """Return the state that `to_items` made `items` of."""
    rest = {name: tree for name, tree in items["rest"].items() if name != "average"}
    return TrainState(ema=items["average"], **rest)


def save(folder: Path, config: RunConfig, current: FitState) -> None:
    """Save a checkpoint in state/ and, after a finished epoch, metrics.csv."""
    facts: dict[str, Any] = {"config": config.settings(), "fingerprints": current.fingerprints}
    facts |= {"history": current.history, "part": current.part, "seconds": current.seconds}
    checkpoint.save(folder / "state", int(current.state.step), to_items(current.state), facts)
    if not current.part:
        write_history(folder, current.history)


def resume(
    folder: Path, config: RunConfig, state: TrainState, now: dict[str, Any], *, identical: bool = False
) -> FitState:
    """Return the training saved in `folder`, or its start from `state` if there is none. `now` is the fingerprint of
    this environment.

    Raises InputError if it was trained with another configuration. If part of it was trained in another environment, it
    warns, or raises InputError if the result must be `identical`.
    """
    restored = checkpoint.restore(folder / "state", to_items(state))
    if restored is None:
        return FitState(state, [], {}, 0.0, [now])
    metadata, settings = restored.metadata, config.settings()
    different = [name for name in settings if metadata["config"].get(name) != settings[name]]
    if different:
        problem = f"was trained with another {' and '.join(different)}"
        raise InputError(folder, problem, "train with the same settings, or delete the folder to start again")
    fingerprints = metadata["fingerprints"]
    if is_primary():
        check_same_environment(folder, fingerprints, now, identical=identical)
    fingerprints = [*(other for other in fingerprints if other != now), now]
    return FitState(
        from_items(restored.items), metadata["history"], metadata["part"], metadata["seconds"], fingerprints
    )
