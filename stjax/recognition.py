"""A trained recogniser as a function from clips to probabilities of classes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import linen as nn

from stjax import checked
from stjax.compiling import compiler_options
from stjax.data.base import LabelSpec
from stjax.data.footage import open_footage
from stjax.data.labelled import Views
from stjax.data.lists.item import Item
from stjax.errors import UserError
from stjax.evaluation.recognition import aggregate
from stjax.sliding import Timeline, slide
from stjax.tasks import normalise
from stjax.trained import Trained, one_late
from stjax.training.workdir import Run


class Recogniser(Trained):
    """Recognises what clips show: ``recogniser(clips) -> probabilities``.

    Compiled once per shape: a batch is padded to a power of two, and a large one is
    cut into parts of `largest_batch`. ``recogniser.astype("bfloat16")`` computes in
    half the memory, and ``recogniser.on(make_mesh())`` on all devices.

    Has the attributes of `stjax.trained.Trained`.

    Attributes:
      views: which frames of a video it looks at; None where that is not known.
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
        self.views = views
        super().__init__(model, variables, spec, source, largest_batch, run)

    def _compile(self) -> None:
        jit = partial(jax.jit, compiler_options=compiler_options())
        self._logits = jit(self._forward)
        self._features = jit(self._forward_features, static_argnames="pooled")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the outputs, in their order."""
        return self.spec.classes

    def __call__(self, x, batch: int | None = None) -> np.ndarray:
        """The probabilities of the classes, each clip by itself.

        Args:
          x: [B, T, H, W, C] or [T, H, W, C] RGB, uint8 (or other integers in 0..255) or
            float in [0, 1]; T as in training. Height and width may differ from those
            of the training data.
          batch: clips recognised at once, in place of `largest_batch`.

        Returns:
          float32 [B, K] (B = 1 for a single clip); they sum to 1, unless a clip may
          have several classes (``spec.multi_label``).

        Raises:
          UserError: wrong rank, number of frames or channels, range or values that
            are not finite.
        """
        logits = self.logits(x, batch)
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

    def slide(
        self,
        path: str | Path,
        window: float | None = None,
        stride: float | None = None,
        batch: int | None = None,
    ) -> Timeline:
        """What a long video shows, and when: see `stjax.sliding.slide`."""
        return slide(self, path, window=window, stride=stride, batch=batch)

    def logits(self, x, batch: int | None = None) -> np.ndarray:
        """As `__call__`, before the softmax: float32 [B, K]."""
        return self._batched(self._logits, x, batch)

    def features(self, x, pooled: bool = True, batch: int | None = None) -> np.ndarray:
        """What the last layer sees of each clip: embeddings to search or cluster.

        Args:
          x: clips as `__call__` takes them.
          pooled: the mean over time and space; else the whole map.
          batch: clips at once, in place of `largest_batch`.

        Returns:
          float32 [B, D], or [B, T', H', W', D].

        Raises:
          UserError: wrong input, or the model has no method ``features``.
        """
        if not callable(getattr(self.model, "features", None)):
            raise UserError(
                f"{type(self.model).__name__} has no method features(x, *, train) ->"
                " [B, T', H', W', D]; take the model that it is made of"
            )
        return self._batched(self._features, x, batch, pooled)

    def top_k(
        self, probabilities: np.ndarray | Sequence[float], k: int = 5
    ) -> list[tuple[str, float]] | list[list[tuple[str, float]]]:
        """The k most probable classes, best first: (name, probability).

        Args:
          probabilities: [K] of one clip, or [B, K]: then a list for each.
          k: how many; all where there are fewer.

        Raises:
          UserError: k is below 1, or there are not as many values as classes.
        """
        probabilities = np.asarray(probabilities)
        if k < 1:
            raise UserError(f"k={k}: expected at least 1")
        if probabilities.ndim not in (1, 2) or probabilities.shape[-1] != len(
            self.classes
        ):
            raise UserError(
                f"probabilities of shape {probabilities.shape}, expected"
                f" [{len(self.classes)}] or [B, {len(self.classes)}]"
            )
        if probabilities.ndim == 2:
            return [self.top_k(row, k) for row in probabilities]
        order = np.argsort(-probabilities, kind="stable")[:k]
        return [(self.classes[i], float(probabilities[i])) for i in order]

    def _batched(self, function, x, batch: int | None, *static) -> np.ndarray:
        def computed():
            for count, part in self._parts(self.prepare(x), batch):
                with self._context():
                    yield count, function(self.variables, part, *static)

        parts = one_late(computed())
        return np.concatenate([np.asarray(y)[:count] for count, y in parts])

    def _forward(self, variables: dict, x: jax.Array) -> jax.Array:
        x = normalise(x, self.spec.offset, self.spec.scale)
        return self.model.apply(variables, x, train=False).astype(jnp.float32)

    def _forward_features(self, variables: dict, x: jax.Array, pooled: bool):
        x = normalise(x, self.spec.offset, self.spec.scale)
        y = self.model.apply(variables, x, train=False, method="features")
        y = y.astype(jnp.float32)
        return y.mean((1, 2, 3)) if pooled else y

    def prepare(self, x) -> np.ndarray:
        """Checks an input and gives it five axes and values in 0..255.

        Raises:
          UserError: see `__call__`.
        """
        x = checked.as_array(x)
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
        clips, unit = checked.as_pixels(checked.finite(clips))
        return clips if unit == 1 else clips * np.float32(unit)

    def describe(self) -> str:
        """What it is, what it takes and what it returns, in a few lines."""
        spec = self.spec
        first, last = self._about()
        names = ", ".join(spec.classes[:8]) + (", ..." if spec.classes[8:] else "")
        kind = "any number of them" if spec.multi_label else "one of them"
        lines = [
            first,
            f"input:  [B, {', '.join(map(str, spec.input_shape))}] RGB, uint8 in"
            " 0..255 or float in 0..1",
            f"output: [B, {len(spec.classes)}] probabilities of the classes ({kind}):"
            f" {names}",
        ]
        if self.views is not None:
            clips, crops = self.views.clips, self.views.crops
            lines.append(
                f"video:  {clips} clips x {crops} crops of {self.views.size} pixels"
            )
        return "\n".join([*lines, last])

    def __repr__(self) -> str:
        return f"<Recogniser: {self.describe().splitlines()[0]}>"
