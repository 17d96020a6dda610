"""Checkpoints: the last two and the best of a run, saved in the background."""

import math
from typing import Any

import flax
import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint import checkpoint_managers

from stjax.errors import UserError
from stjax.training import damage, layout
from stjax.training.state import TrainState

Step = int | str | None


def _quality(metrics: dict | None) -> float:
    """Larger is better; a checkpoint that was not evaluated is never the best."""
    error = (metrics or {}).get("error", math.inf)
    return -error if math.isfinite(error) else -math.inf


class Checkpoints:
    """The last two and the best checkpoint of a workdir; saved in the background.

    The best has the lowest "error" among the metrics it was saved with. A checkpoint
    has two items, so that weights load without the optimizer: ``model`` (params and
    collections) and ``train`` (step and optimizer state).

    A checkpoint that is damaged is passed over with a warning: that is what the last
    but one is kept for.
    """

    def __init__(self, workdir: str | epath.Path, create: bool = False):
        """Opens the checkpoints of a workdir; with ``create``, for writing."""
        self.workdir = epath.Path(workdir)
        self._create = create
        keep = [
            checkpoint_managers.LatestN(2),
            checkpoint_managers.BestN(get_metric_fn=_quality, n=1),
        ]
        path = self.workdir / "checkpoints"
        if "://" not in str(path):
            path = path.resolve()  # Orbax: no relative ones
        if not create and not path.exists():
            raise self._empty()
        if create:
            damage.drop_unreadable_metrics(path)
        self._handler = ocp.StandardCheckpointHandler()
        self._manager = ocp.CheckpointManager(
            path,
            item_handlers={
                "model": ocp.StandardCheckpointHandler(),
                "train": ocp.StandardCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                create=create,
                cleanup_tmp_directories=create,  # left by a run that was killed
                lightweight_initialize=not create,  # reads no metrics, good or bad
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
        with damage.room(self.workdir):
            self._manager.close()  # waits for what is being written

    @property
    def last(self) -> int | None:
        """The newest step that was saved."""
        return self._manager.latest_step()

    @property
    def best(self) -> int | None:
        """The best step; the newest where none was evaluated."""
        return next(iter(self._by_quality()), None)

    def metrics(self, step: int) -> dict:
        """What the checkpoint was saved with."""
        return {
            k: v
            for k, v in self._all_metrics(step).items()
            if not k.startswith("checksum")
        }

    def save(self, state: TrainState, metrics: dict[str, float] | None = None) -> None:
        """Starts to save a state; with ``error`` in metrics if it was evaluated.

        A step that is there already is left as it is.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        items = {"model": _model_item(state), "train": _train_item(state)}
        sums = {
            f"checksum_{name}": damage.checksum(item) for name, item in items.items()
        }
        sums = {name: int(value) for name, value in jax.device_get(sums).items()}
        saved = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        with damage.room(self.workdir):
            self._manager.save(
                step,
                args=ocp.args.Composite(**saved),
                metrics={**(metrics or {}), **sums},
            )

    def reached_preemption(self, step: int) -> bool:
        """Whether all hosts have to stop here (always False on a single host)."""
        return self._manager.reached_preemption(step)

    def find(self, step: Step) -> int:
        """The number behind "last", "best" (or None) or a number.

        Raises:
          UserError: there is no such checkpoint, or no room to write it.
        """
        with damage.room(self.workdir):
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
          step: "last", "best" or a number. "last" is the newest one that can be read;
            in a run, newer ones that cannot are set aside as ``<step>.damaged``.

        Raises:
          UserError: none that can be read, or it belongs to another model.
        """
        items = {"model": _model_item(abstract), "train": _train_item(abstract)}
        _, found = self._read(step, items)
        model, train = found["model"], found["train"]
        if abstract.ema is not None:
            model = {**model, "ema": model["params"], "params": train.pop("params")}
        return TrainState(**model, **train)

    def restore_variables(self, abstract: dict, step: Step = None) -> tuple[int, dict]:
        """The variables of the model only, and their step; arguments as in `restore`.

        "best" (or None) is the best one that can be read.
        """
        item = {"params": abstract["params"], "collections": {**abstract}}
        del item["collections"]["params"]
        step, found = self._read(step, {"model": item})
        model = found["model"]
        return step, {"params": model["params"], **model["collections"]}

    def _read(self, step: Step, items: dict[str, dict]) -> tuple[int, dict]:
        """Items of the first checkpoint in order of preference that can be read."""
        steps = [self.find(step)]
        if step in (None, "best"):
            steps = self._by_quality()
        elif step == "last":
            steps = sorted(self._manager.all_steps(), reverse=True)
        failures = {}
        for number in steps:
            found, failure = self._attempt(number, items)
            if not failure:
                break
            failures[number] = failure
        else:
            told = "; ".join(f"step {n}: {text}" for n, text in failures.items())
            raise UserError(
                f"{self.workdir} has no checkpoint to go on with that can be read"
                f" ({told}); repair its files or choose another step or workdir"
            )
        for bad, failure in failures.items():
            self._pass_over(bad, failure, number)
        return number, found

    def _attempt(self, step: int, items: dict[str, dict]) -> tuple[dict, str]:
        """The items of a checkpoint, and what is wrong with it on any host, or ""."""
        # By the handler: the manager has barriers, at which others would wait for a
        # host that fails.
        found, failure = {}, ""
        folder = self._manager.directory / str(step)
        sums = self._all_metrics(step)
        try:
            saved = self._handler.metadata(folder / "model").tree
            stored = layout.as_saved(items, saved)
            self._check(step, stored["model"], saved)
            for name, item in stored.items():
                args = ocp.args.StandardRestore(item)
                found[name] = self._handler.restore(folder / name, args=args)
        except UserError:
            raise
        except Exception as error:  # of the file system, TensorStore, zstd, JSON ...
            failure = damage.reason(error)
        failure = damage.agreed(failure)
        if not failure:
            for name, item in found.items():
                expected = sums.get(f"checksum_{name}")
                if expected is not None and int(damage.checksum(item)) != expected:
                    failure = f"the checksum of its item {name} is wrong"
        return found if failure else layout.as_wanted(found, items), failure

    def _pass_over(self, bad: int, failure: str, instead: int) -> None:
        aside = ""
        if self._create:  # the run will come to this step again
            name = damage.set_aside(self._manager.directory / str(bad)).name
            self._manager.reload()
            aside = f"; it is now {name}, to be deleted by you"
        if jax.process_index() == 0:
            logging.warning(
                "checkpoint %d of %s cannot be read (%s): taking that of step %d%s",
                *(bad, self.workdir, failure, instead, aside),
            )

    def _by_quality(self) -> list[int]:
        steps = self._manager.all_steps()
        rank = {step: (_quality(self._all_metrics(step)), step) for step in steps}
        return sorted(steps, key=rank.get, reverse=True)

    def _all_metrics(self, step: int) -> dict:
        try:
            return dict(self._manager.metrics(step) or {})
        except (ValueError, OSError):  # damaged
            return {}

    def _empty(self) -> UserError:
        return UserError(
            f"{self.workdir} has no checkpoint; give the workdir of a training that has"
            " saved one"
        )

    def _check(self, step: int, expected: dict, saved: dict) -> None:
        found = differences(shapes(saved), shapes(expected))
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
