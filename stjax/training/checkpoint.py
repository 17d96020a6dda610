"""Checkpoints: the last and the best of a run, saved in the background."""

import math
from typing import Any

import flax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from stjax.errors import UserError
from stjax.training.state import TrainState

Step = int | str | None


def _quality(metrics: dict | None) -> float:
    """Larger is better; a checkpoint that was not evaluated is never the best."""
    error = (metrics or {}).get("error", math.inf)
    return -error if math.isfinite(error) else -math.inf


class Checkpoints:
    """The last and the best checkpoint of a workdir; saved in the background.

    The best has the lowest "error" among the metrics it was saved with. A checkpoint
    has two items, so that weights load without the optimizer: ``model`` (params and
    collections) and ``train`` (step and optimizer state).
    """

    def __init__(self, workdir: str | epath.Path, create: bool = False):
        """Opens the checkpoints of a workdir; with ``create``, for writing."""
        self.workdir = epath.Path(workdir)
        keep = [
            checkpoint_managers.LatestN(1),
            checkpoint_managers.BestN(get_metric_fn=_quality, n=1),
        ]
        path = (self.workdir / "checkpoints").resolve()  # Orbax: no relative ones
        if not create and not path.exists():
            raise self._empty()
        self._manager = ocp.CheckpointManager(
            path,
            item_handlers={
                "model": ocp.StandardCheckpointHandler(),
                "train": ocp.StandardCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                create=create,
                cleanup_tmp_directories=create,  # left by a run that was killed
                best_fn=_quality,
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(keep),
            ),
        )

    @staticmethod
    def exist(workdir: str | epath.Path) -> bool:
        """Whether a workdir has any checkpoint."""
        path = epath.Path(workdir) / "checkpoints"
        return path.exists() and any(p.name.isdigit() for p in path.iterdir())

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *unused) -> None:
        self._manager.close()  # waits for what is being written

    @property
    def last(self) -> int | None:
        """The newest step that was saved."""
        return self._manager.latest_step()

    @property
    def best(self) -> int | None:
        """The best step; the newest where none was evaluated."""
        steps = self._manager.all_steps()
        return max(steps, key=lambda s: (self._rank(s), s)) if steps else None

    def metrics(self, step: int) -> dict:
        """What the checkpoint was saved with."""
        return dict(self._manager.metrics(step) or {})

    def save(self, state: TrainState, metrics: dict[str, float] | None = None) -> None:
        """Starts to save a state; with ``error`` in metrics if it was evaluated.

        A step that is there already is left as it is.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(
            model=ocp.args.StandardSave(_model_item(state)),
            train=ocp.args.StandardSave(_train_item(state)),
        )
        self._manager.save(step, args=items, metrics=metrics or {})

    def reached_preemption(self, step: int) -> bool:
        """Whether all hosts have to stop here (always False on a single host)."""
        return self._manager.reached_preemption(step)

    def find(self, step: Step) -> int:
        """The number behind "last", "best" (or None) or a number.

        Raises:
          UserError: there is no such checkpoint.
        """
        self._manager.wait_until_finished()
        steps = list(self._manager.all_steps())
        if not steps:
            raise self._empty()
        if step in (None, "best"):
            return self.best
        if step == "last":
            return self.last
        if step not in steps:
            raise UserError(
                f"{self.workdir} has no checkpoint of step {step!r}; there are"
                f" {sorted(steps)} ('best' is {self.best}, 'last' is {self.last})"
            )
        return step

    def restore(self, abstract: TrainState, step: Step = "last") -> TrainState:
        """A whole state, to go on training.

        Args:
          abstract: shapes, dtypes and shardings; the state may have been saved from
            another mesh.
          step: "last", "best" or a number.

        Raises:
          UserError: no such checkpoint, or it belongs to another model.
        """
        step = self.find(step)
        self._check(step, _model_item(abstract))
        items = ocp.args.Composite(
            model=ocp.args.StandardRestore(_model_item(abstract)),
            train=ocp.args.StandardRestore(_train_item(abstract)),
        )
        found = self._manager.restore(step, args=items)
        model, train = found["model"], found["train"]
        if abstract.ema is not None:
            model = {**model, "ema": model["params"], "params": train.pop("params")}
        return TrainState(**model, **train)

    def restore_variables(self, abstract: dict, step: Step = None) -> dict:
        """The variables of the model only; arguments as in `restore`."""
        step = self.find(step)
        item = {"params": abstract["params"], "collections": {**abstract}}
        del item["collections"]["params"]
        self._check(step, item)
        items = ocp.args.Composite(model=ocp.args.StandardRestore(item))
        found = self._manager.restore(step, args=items)["model"]
        return {"params": found["params"], **found["collections"]}

    def _rank(self, step: int) -> float:
        return _quality(self._manager.metrics(step))

    def _empty(self) -> UserError:
        return UserError(
            f"{self.workdir} has no checkpoint; give the workdir of a training that has"
            " saved one"
        )

    def _check(self, step: int, expected: dict) -> None:
        saved = shapes(self._manager.item_metadata(step)["model"].tree)
        found = differences(saved, shapes(expected))
        if found:
            raise UserError(
                f"checkpoint {step} of {self.workdir} is of another model:"
                f" {'; '.join(found[:3])}"
                + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
            )


def _model_item(state: TrainState) -> dict[str, Any]:
    # What is evaluated and loaded: the moving average, where there is one.
    return {"params": state.variables["params"], "collections": state.collections}


def _train_item(state: TrainState) -> dict[str, Any]:
    item = {"step": state.step, "opt_state": state.opt_state}
    return item if state.ema is None else {**item, "params": state.params}


def shapes(tree: dict) -> dict[str, tuple[int, ...]]:
    """ "params/hid/kernel": (3, 4); leaves are arrays or metadata."""
    flat = flax.traverse_util.flatten_dict(tree, sep="/")
    return {name: tuple(leaf.shape) for name, leaf in flat.items()}


def differences(saved: dict[str, tuple], expected: dict[str, tuple]) -> list[str]:
    """How the arrays of a file differ from those of a model, one line each."""
    lines = []
    for name in sorted(saved.keys() | expected.keys()):
        if name not in saved:
            lines.append(f"{name} {expected[name]} is missing")
        elif name not in expected:
            lines.append(f"{name} {saved[name]} is not in the model")
        elif saved[name] != expected[name]:
            lines.append(f"{name} is {saved[name]}, the model has {expected[name]}")
    return lines
