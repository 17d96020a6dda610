"""A trained recogniser as a function from clips to probabilities of classes."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import linen as nn

from stjax.data.base import LabelSpec
from stjax.data.footage import open_footage
from stjax.data.labelled import Views
from stjax.data.lists.item import Item
from stjax.errors import UserError
from stjax.evaluation.recognition import aggregate
from stjax.tasks import normalise
from stjax.training.workdir import Run

_SLACK = 1e-3  # Floats in [0, 1] that went through a resize may stick out.


class Recogniser:
    """Recognises what clips show: ``recogniser(clips) -> probabilities``.

    Compiled once per shape: a batch is padded to a power of two, and a large one is
    cut into parts of `largest_batch`.

    Attributes:
      model: the Flax module.
      variables: its parameters and statistics.
      spec: what the clips of its training data look like; ``spec.classes`` names the
        classes.
      source: where it came from, in words.
    """

    def __init__(
        self,
        model: nn.Module,
        variables: dict,
        spec: LabelSpec,
        *,
        source: str = "",
        views: Views | None = None,
        largest_batch: int = 8,
        run: Run | None = None,
    ):
        """A recogniser from its parts; `stjax.load` makes one from a workdir.

        Args:
          model: ``apply(variables, x, train=False) -> logits``.
          variables: what ``model.init`` returns, trained.
          spec: of the training data.
          source: where it came from, in words.
          views: which frames of a video to look at, for `video`.
          largest_batch: clips recognised at once.
          run: what it was loaded from; `stjax.export` needs its config.
        """
        self.model = model
        self.variables = jax.device_put(variables)
        self.spec = spec
        self.source = source
        self.views = views
        self.largest_batch = largest_batch
        self.run = run
        self._logits = jax.jit(self._forward)

    def __call__(self, x) -> np.ndarray:
        """The probabilities of the classes, each clip by itself.

        Args:
          x: [B, T, H, W, C] or [T, H, W, C] RGB, uint8 (or other integers in 0..255) or
            float in [0, 1]; T as in training. Height and width may differ from those
            of the training data.

        Returns:
          float32 [B, K] (B = 1 for a single clip); they sum to 1, unless a clip may
          have several classes (``spec.multi_label``).

        Raises:
          UserError: wrong rank, number of frames or channels, range or values that
            are not finite.
        """
        logits = self.logits(x)
        return aggregate(logits[:, None], self.spec).astype(np.float32)

    def of_views(self, views) -> np.ndarray:
        """The probabilities [K] of one clip that is seen in several views.

        Args:
          views: [V, T, H, W, C], as `__call__` takes them.
        """
        return aggregate(self.logits(views), self.spec).astype(np.float32)

    def video(self, path: str | Path) -> np.ndarray:
        """The probabilities [K] for a video file, seen as the test videos were.

        One that is too short repeats its last frame, as in training, with a warning.

        Args:
          path: a video, or a folder of frames.

        Raises:
          UserError: it is missing, not a video, or has no frames; or this recogniser
            does not know how its videos were seen.
        """
        if self.views is None:
            raise UserError("this recogniser has no views; give it clips instead")
        path = Path(path).expanduser()
        if not path.exists():
            raise UserError(f"there is no video {path}; check the path")
        footage = open_footage(path.parent, Item(path.name, labels=()))
        if footage.length < self.spec.t_in:
            logging.warning(
                "%s has %d frames, the model takes %d: its last frame is repeated",
                path,
                footage.length,
                self.spec.t_in,
            )
        views, _ = self.views.take(footage, np.random.default_rng(0))
        return self.of_views(views)

    def logits(self, x) -> np.ndarray:
        """As `__call__`, before the softmax: float32 [B, K]."""
        clips = self.prepare(x)
        parts = []
        for start in range(0, len(clips), self.largest_batch):
            part = clips[start : start + self.largest_batch]
            size = min(self.largest_batch, 2 ** math.ceil(math.log2(len(part))))
            padding = [(0, size - len(part))] + [(0, 0)] * 4
            logits = self._logits(self.variables, np.pad(part, padding))
            parts.append(np.asarray(logits)[: len(part)])
        return np.concatenate(parts)

    def top_k(self, probabilities: np.ndarray, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable classes of one clip, best first.

        Args:
          probabilities: [K].
          k: how many; all where there are fewer.
        """
        order = np.argsort(-probabilities, kind="stable")[:k]
        return [(self.spec.classes[i], float(probabilities[i])) for i in order]

    def _forward(self, variables: dict, x: jax.Array) -> jax.Array:
        x = normalise(x, self.spec.offset, self.spec.scale)
        return self.model.apply(variables, x, train=False).astype(jnp.float32)

    def prepare(self, x) -> np.ndarray:
        """Checks an input and gives it five axes and values in 0..255.

        Raises:
          UserError: see `__call__`.
        """
        x = np.asarray(x)
        t, height, width, channels = self.spec.input_shape
        expected = f"expected [B, {t}, {height}, {width}, {channels}] or without B"
        clips = x[None] if x.ndim == 4 else x
        if clips.ndim != 5 or clips.shape[-1] != channels or 0 in clips.shape:
            raise UserError(f"clips of shape {x.shape}; {expected}")
        if clips.shape[1] != t:
            raise UserError(
                f"clips of {clips.shape[1]} frames; {expected}. `stjax predict` picks"
                " the frames of a video as in training"
            )
        if not jnp.issubdtype(clips.dtype, jnp.floating):
            if clips.dtype.kind not in "ui":
                raise UserError(f"clips of dtype {x.dtype}, expected uint8 or float")
            if clips.min() < 0 or clips.max() > 255:
                raise UserError(
                    f"integer frames range from {clips.min()} to {clips.max()},"
                    " expected 0 to 255"
                )
            return clips.astype(np.uint8)
        clips = clips.astype(np.float32)
        if not np.isfinite(clips).all():
            raise UserError("clips hold values that are NaN or infinite; fill them")
        if clips.min() < -_SLACK or clips.max() > 1 + _SLACK:
            raise UserError(
                f"float frames range from {clips.min():.4g} to {clips.max():.4g},"
                " expected 0 to 1; divide by 255 or give uint8"
            )
        return clips * np.float32(255)

    def describe(self) -> str:
        """What it is, what it takes and what it returns, in a few lines."""
        spec = self.spec
        size = sum(x.size for x in jax.tree.leaves(self.variables.get("params", {})))
        name = type(self.model).__name__
        names = ", ".join(spec.classes[:8]) + (", ..." if spec.classes[8:] else "")
        kind = "any number of them" if spec.multi_label else "one of them"
        return "\n".join(
            (
                f"{name} with {size:,} parameters"
                + (f", {self.source}" * bool(self.source)),
                f"input:  [B, {', '.join(map(str, spec.input_shape))}] RGB, uint8 in"
                " 0..255 or float in 0..1",
                f"output: [B, {len(spec.classes)}] probabilities of the classes"
                f" ({kind}): {names}",
            )
        )

    def __repr__(self) -> str:
        return f"<Recogniser: {self.describe().splitlines()[0]}>"
