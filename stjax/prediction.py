"""A trained predictor as a function from frames to frames."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import errors as flax_errors
from flax import linen as nn

from stjax.data.base import ClipSpec
from stjax.errors import UserError
from stjax.training.workdir import Run

_SLACK = 1e-3  # Floats in [0, 1] that went through a resize or bfloat16 may stick out.


class Predictor:
    """Predicts the next frames: ``predictor(frames_so_far)``.

    Compiled once per shape: a batch is padded to a power of two, and a large one is
    cut into parts of `largest_batch`.

    Units. Of a model trained on pictures (``spec.dtype == "uint8"``), the input is
    uint8 (or other integers) in 0..255, or float in [0, 1]. Of any other model, the
    input is in the raw units of its training data, ``spec.units``, such as kelvin:
    the model's own normalisation happens inside. The output is float32 in the same
    units as the input: about 0..255 for integers, about 0..1 for floats. It is not
    clipped.

    A probabilistic model would put a member axis in front of the batch.

    Attributes:
      model: the Flax module.
      variables: its parameters and statistics.
      spec: what the clips of its training data look like.
      source: where it came from, in words.
    """

    def __init__(
        self,
        model: nn.Module,
        variables: dict,
        spec: ClipSpec,
        *,
        source: str = "",
        nan: str = "error",
        largest_batch: int = 32,
        run: Run | None = None,
    ):
        """A predictor from its parts; `load` makes one from a workdir.

        Args:
          model: a predictor, ``apply(variables, x, frames=, train=False)``.
          variables: what ``model.init`` returns, trained.
          spec: of the training data.
          source: where it came from, in words.
          nan: "error", or "mask": missing input values are put at ``spec.offset``, as
            in training with ``data.nan="mask"``.
          largest_batch: clips predicted at once.
          run: what it was loaded from; `stjax.export` needs its config.
        """
        self.model = model
        self.variables = jax.device_put(variables)
        self.spec = spec
        self.source = source
        self.nan = nan
        self.largest_batch = largest_batch
        self.run = run
        self._predict = jax.jit(self._forward, static_argnames=("unit", "frames"))

    def __call__(self, x, frames: int | None = None):
        """Predicts.

        Args:
          x: frames so far, as many as in training or more: then the last T_in count,
            except for models of any length (recurrent ones: their class has
            ``any_length``), which read them all and also take fewer.
            [B, T_in, H, W, C_in] or [T_in, H, W, C_in], and [T_in, H, W] where
            C_in = 1; numpy, JAX, anything numpy can read, or an xarray.DataArray with
            its dimensions in that order. Height and width may differ from those of
            the training data where the model is convolutional.
          frames: how many to predict; None: as many as in training.

        Returns:
          float32 [B, T_out, H, W, C_out] (B = 1 for a single clip), a JAX array if x
          is one, else numpy. For a DataArray a DataArray with the dimensions of x,
          ``lead_time`` in place of the time, and all other coordinates.

        Raises:
          UserError: wrong rank, number of frames or channels, sides, range or units,
            or values that are not finite.
        """
        frames = self.spec.t_out if frames is None else frames
        if frames < 1:
            raise UserError(f"frames={frames}: expected at least 1")
        if hasattr(x, "dims") and hasattr(x, "coords"):
            from stjax import labelled

            return labelled.predict(self, x, frames)
        on_device = isinstance(x, jax.Array)
        clips, unit = self.prepare(x)
        self._check_sides(clips.shape, unit, frames)
        parts = []
        for start in range(0, len(clips), self.largest_batch):
            part = clips[start : start + self.largest_batch]
            size = min(self.largest_batch, 2 ** math.ceil(math.log2(len(part))))
            padding = [(0, size - len(part))] + [(0, 0)] * 4
            y = self._predict(self.variables, np.pad(part, padding), unit, frames)
            parts.append((y if on_device else np.asarray(y))[: len(part)])
        return (jnp if on_device else np).concatenate(parts)

    def _forward(self, variables, x, unit: float, frames: int):
        spec = self.spec
        x = x.astype(jnp.float32) * unit
        x = (x - jnp.array(spec.offset)) / jnp.array(spec.scale)
        y = self.model.apply(variables, x, frames=frames, train=False)
        y = y.astype(jnp.float32) * jnp.array(spec.target_scale)
        return (y + jnp.array(spec.target_offset)) / unit

    @property
    def is_pixels(self) -> bool:
        """Whether it was trained on pictures rather than on measured values."""
        return self.spec.dtype == "uint8"

    def prepare(self, x) -> tuple[np.ndarray, float]:
        """Checks an input and gives it five axes.

        Returns:
          [B, T_in, H, W, C_in] uint8 or float32, and the raw units in one unit of it.

        Raises:
          UserError: see `__call__`.
        """
        clips = self._with_axes(np.asarray(x))
        floating = jnp.issubdtype(clips.dtype, jnp.floating)
        if clips.dtype == bool and self.is_pixels:
            clips, floating = clips.astype(np.float32), True
        elif not floating and clips.dtype.kind not in "bui":
            raise UserError(f"input has dtype {clips.dtype}, expected uint8 or float")
        if floating:
            clips = self._finite(clips.astype(np.float32))
        if not self.is_pixels:
            return clips.astype(np.float32), 1.0
        low, high = clips.min(), clips.max()
        if floating:
            if low < -_SLACK or high > 1 + _SLACK:
                raise UserError(
                    f"float frames range from {low:.4g} to {high:.4g}, expected 0 to 1;"
                    " divide by 255 or give uint8"
                )
            return clips, 255.0
        if low < 0 or high > 255:
            raise UserError(
                f"integer frames range from {low} to {high}, expected 0 to 255"
            )
        return clips.astype(np.uint8), 1.0

    def _with_axes(self, x: np.ndarray) -> np.ndarray:
        t_in, height, width, channels = self.spec.input_shape
        expected = f"expected [B, {t_in}, {height}, {width}, {channels}]"
        if x.ndim == 3 and channels == 1:
            x = x[None, ..., None]
        elif x.ndim == 4:
            x = x[None]
        elif x.ndim != 5:
            raise UserError(
                f"input of shape {x.shape} has {x.ndim} axes; {expected} or without B"
            )
        if x.shape[-1] != channels:
            raise UserError(
                f"input has {x.shape[-1]} channels (the last axis of {x.shape}), the"
                f" model takes {channels} ({', '.join(self.spec.channels[:8])})"
            )
        any_length = getattr(self.model, "any_length", False)
        if x.shape[1] < (1 if any_length else t_in):
            raise UserError(
                f"input has {x.shape[1]} frames, the model takes {t_in} (of more, the"
                f" last {t_in}); {expected}"
            )
        x = x if any_length else x[:, -t_in:]
        if 0 in x.shape:
            raise UserError(f"input of shape {x.shape} is empty; {expected}")
        return x

    def _finite(self, x: np.ndarray) -> np.ndarray:
        bad = ~np.isfinite(x)
        if not bad.any():
            return x
        if self.nan == "mask":
            unit = 255.0 if self.is_pixels else 1.0
            return np.where(bad, np.float32(self.spec.offset) / np.float32(unit), x)
        raise UserError(
            f"input holds {bad.sum()} values that are NaN or infinite (of {x.size});"
            " fill them, or train with data.nan='mask'"
        )

    def _check_sides(self, shape: tuple, unit: float, frames: int) -> None:
        """Says in one line what a model says in many about sides it cannot take."""
        trained = self.spec.height, self.spec.width
        if shape[2:4] == trained:
            return
        x = jax.ShapeDtypeStruct((1, *shape[1:]), jnp.float32)
        try:
            jax.eval_shape(
                lambda v, x: self._forward(v, x, unit, frames), self.variables, x
            )
        except UserError:
            raise
        except (flax_errors.FlaxError, TypeError, ValueError) as error:
            raise UserError(
                f"frames of {shape[2]}x{shape[3]} do not fit this model, trained on"
                f" {trained[0]}x{trained[1]} (height x width); resize them"
            ) from error

    def describe(self) -> str:
        """What it is, what it takes and what it returns, in a few lines."""
        spec = self.spec
        size = sum(x.size for x in jax.tree.leaves(self.variables.get("params", {})))
        name = type(self.model).__name__
        if self.is_pixels:
            values = "uint8 in 0..255 or float in 0..1"
        else:
            values = f"float in {spec.units or 'raw units'}"
        if getattr(self.model, "any_length", False):
            length = f"any T; trained on {spec.t_in}"
        else:
            length = f"T = {spec.t_in}; of a longer clip the last {spec.t_in} frames"
        names = ", ".join(spec.channels[:8]) + (", ..." if spec.channels[8:] else "")
        lines = [
            f"{name} with {size:,} parameters"
            + (f", {self.source}" * bool(self.source)),
            f"input:  [B, {', '.join(map(str, spec.input_shape))}] ({names}), {values}",
            f"        {length}",
            f"output: [B, {', '.join(map(str, spec.target_shape))}] float32 in the"
            " units of the input; frames=N for N frames",
        ]
        if self.nan == "mask":
            lines.append("NaN in the input means: no data there")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Predictor: {self.describe().splitlines()[0]}>"
