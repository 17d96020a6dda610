"""A trained predictor as a function from frames to frames."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import errors as flax_errors
from flax import linen as nn

from stjax import checked
from stjax.compiling import compiler_options
from stjax.data.base import ClipSpec
from stjax.errors import UserError
from stjax.rollout import recursion
from stjax.trained import Trained, one_late
from stjax.training.workdir import Run

_BATCH = -5  # A member axis may come in front of it.


class Predictor(Trained):
    """Predicts the next frames: ``predictor(frames_so_far)``.

    Compiled once per shape: a batch is padded to a power of two, and a large one is
    cut into parts of `largest_batch`. More frames than in training come block by block
    (`stjax.rollout`): they take no more device memory and are not compiled again.

    Units. Of a model trained on pictures (``spec.dtype == "uint8"``), the input is
    uint8 (or other integers) in 0..255, or float in [0, 1]. Of any other model, the
    input is in the raw units of its training data, ``spec.units``, such as kelvin:
    the model's own normalisation happens inside. The output is float32 in the same
    units as the input: about 0..255 for integers, about 0..1 for floats. It is not
    clipped.

    ``predictor.astype("bfloat16")`` computes in half the memory, and
    ``predictor.on(make_mesh())`` on all devices.

    A probabilistic model would put a member axis in front of the batch.

    Has the attributes of `stjax.trained.Trained`.

    Attributes:
      nan: "error" or "mask", what missing input values are.
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
        self.nan = nan
        super().__init__(model, variables, spec, source, largest_batch, run)

    def _compile(self) -> None:
        self._recursion = recursion(self.model, self.spec.t_out)
        jit = partial(jax.jit, compiler_options=compiler_options())
        self._predict = jit(self._forward, static_argnames=("unit", "frames"))
        self._start = jit(self._first, static_argnames=("unit", "frames"))
        self._step = jit(
            self._next, static_argnames=("unit", "sides"), donate_argnames="carry"
        )

    def __call__(self, x, frames: int | None = None, batch: int | None = None):
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
          batch: clips predicted at once, in place of `largest_batch`.

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

            return labelled.predict(self, x, frames, batch)
        xp = jnp if isinstance(x, jax.Array) else np
        clips, unit = self.prepare(x)
        self._check_sides(clips.shape, unit)
        if not self._in_blocks(frames):
            parts = one_late(
                (count, self._call(self._predict, part, unit, frames))
                for count, part in self._parts(clips, batch)
            )
            return xp.concatenate([_cut(xp, y, count) for count, y in parts], _BATCH)
        parts = (
            [_cut(xp, y, count) for y in self._blocks(part, unit, frames)]
            for count, part in self._parts(clips, batch)
        )
        return xp.concatenate([xp.concatenate(p, _BATCH + 1) for p in parts], _BATCH)

    def rollout(self, x, frames: int | None = None) -> Iterator[np.ndarray]:
        """Predicts on and on: blocks of frames, each when it is asked for.

        Neither the device nor this machine holds more than two of them, so that what
        does not fit in memory can be written, and one may stop when one likes.

        Args:
          x: as in a call; all clips at once.
          frames: how many in all; None: no end.

        Yields:
          float32 [B, block, H, W, C], one after another in time; the last may be
          shorter.

        Raises:
          UserError: as a call does, or an end has to be given: the model does not
            recurse by itself or keeps all of its past.
        """
        if frames is None and (self._recursion is None or self._recursion.bounded):
            raise UserError(
                f"{type(self.model).__name__} has no endless rollout; set frames"
            )
        if frames is not None and not self._in_blocks(frames):
            yield np.asarray(self(x, frames))
            return
        clips, unit = self.prepare(x)
        self._check_sides(clips.shape, unit)
        for count, part in self._parts(clips, len(clips)):
            for y in self._blocks(part, unit, frames):
                yield _cut(np, y, count)

    def _in_blocks(self, frames: int) -> bool:
        """Whether predictions have to be fed back, and may be."""
        same = self.spec.target_index == tuple(range(len(self.spec.channels)))
        return self._recursion is not None and same and frames > self.spec.t_out

    def _blocks(self, x: jax.Array, unit: float, frames: int | None) -> Iterator:
        """Blocks [B, block, H, W, C] on the device, the last one cut."""

        def computed():
            known = frames if self._recursion.bounded else 1
            carry, done = self._call(self._start, x, unit, known), 0
            while frames is None or done < frames:
                carry, y = self._call(self._step, carry, unit, x.shape[2:4])
                last = y.shape[_BATCH + 1] if frames is None else frames - done
                done += y.shape[_BATCH + 1]
                yield y if last >= y.shape[_BATCH + 1] else y[..., :last, :, :, :]

        return one_late(computed())

    def _call(self, function, x, unit: float, *static):
        with self._context():
            return function(self.variables, x, unit, *static)

    def _forward(self, variables, x, unit: float, frames: int):
        x = self._normalised(x, unit)
        y = self.model.apply(variables, x, frames=frames, train=False)
        return self._in_units(y, unit)

    def _first(self, variables, x, unit: float, frames: int):
        return self._recursion.start(variables, self._normalised(x, unit), frames)

    def _next(self, variables, carry, unit: float, sides: tuple[int, int]):
        carry, y = self._recursion.step(variables, carry, sides)
        return carry, self._in_units(y, unit)

    def _normalised(self, x, unit: float):
        x = x.astype(jnp.float32) * unit
        return (x - jnp.array(self.spec.offset)) / jnp.array(self.spec.scale)

    def _in_units(self, y, unit: float):
        y = y.astype(jnp.float32) * jnp.array(self.spec.target_scale)
        return (y + jnp.array(self.spec.target_offset)) / unit

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
        any_length = getattr(self.model, "any_length", False)
        clips = checked.with_axes(checked.as_array(x), self.spec, any_length)
        unit = 255.0 if self.is_pixels else 1.0
        missing = None
        if self.nan == "mask":
            missing = np.float32(self.spec.offset) / np.float32(unit)
        clips = checked.finite(clips, missing)
        if self.is_pixels:
            return checked.as_pixels(clips)
        return clips.astype(np.float32), 1.0

    def _check_sides(self, shape: tuple, unit: float) -> None:
        """Says in one line what a model says in many about sides it cannot take."""
        trained = self.spec.height, self.spec.width
        if shape[2:4] == trained:
            return
        x = jax.ShapeDtypeStruct((1, *shape[1:]), jnp.float32)
        try:
            jax.eval_shape(lambda v, x: self._forward(v, x, unit, 1), self.variables, x)
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
        first, last = self._about()
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
            first,
            f"input:  [B, {', '.join(map(str, spec.input_shape))}] ({names}), {values}",
            f"        {length}",
            f"output: [B, {', '.join(map(str, spec.target_shape))}] float32 in the"
            " units of the input; frames=N for N frames",
        ]
        if self._in_blocks(spec.t_out + 1):
            how = "from its state" if hasattr(self.model, "go_on") else "fed back"
            lines.append(f"        more than {spec.t_out}: {how}, block by block")
        if self.nan == "mask":
            lines.append("NaN in the input means: no data there")
        return "\n".join([*lines, last])

    def __repr__(self) -> str:
        return f"<Predictor: {self.describe().splitlines()[0]}>"


def _cut(xp, y: jax.Array, count: int):
    """The clips that are no padding; fetched to the host where `xp` is numpy."""
    return xp.asarray(y)[..., :count, :, :, :, :]
