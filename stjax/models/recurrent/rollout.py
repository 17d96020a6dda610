"""The loop that every recurrent predictor runs: one `lax.scan` over the frames."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from stjax.errors import UserError, unknown
from stjax.models.recurrent.sampling import (
    reverse_probabilities,
    scheduled_probability,
)
from stjax.models.sides import fit_sides

Array = jax.Array
Carry = tuple


def to_patches(video: Array, size: int) -> Array:
    """[B,T,H,W,C] -> [B,T,H/size,W/size,size*size*C], channel (py*size+px)*C+c."""
    b, t, h, w, c = video.shape
    cells = video.reshape(b, t, h // size, size, w // size, size, c)
    cells = cells.transpose(0, 1, 2, 4, 3, 5, 6)
    return cells.reshape(b, t, h // size, w // size, size * size * c)


def from_patches(patches: Array, size: int) -> Array:
    """The inverse of `to_patches`."""
    b, t, h, w, c = patches.shape
    cells = patches.reshape(b, t, h, w, size, size, c // size**2)
    cells = cells.transpose(0, 1, 2, 4, 3, 5, 6)
    return cells.reshape(b, t, h * size, w * size, c // size**2)


class Rollout(nn.Module):
    """Base of the recurrent predictors: x_t -> prediction of frame t+1, and so on.

    ``model(x, frames=N)`` reads x [B,T_in,H,W,C] and predicts [B,N,H,W,C] in a closed
    loop, each prediction being the next input. Any T_in >= 1 and any N will do,
    whatever the model was trained with; compile time does not grow with either.
    C_out = C_in by construction.

    ``model(x, frames=T_out, train=True, target=y, step=step, rngs={'dropout': key})``
    returns all T_in + T_out - 1 one-step predictions, to be compared with the last
    so many frames of concat(x, y): these models learn from their input frames too.
    Which true frames are shown is drawn from `dropout`, one token a sample and step;
    `sampling_mask` [B,K] (1 = show) sets the tokens of the last K steps by hand.

    A subclass defines `begin` (the state at the start), `advance` (one step) and
    `tokens` (what is shown in training).

    Attributes:
      dtype: compute dtype. Parameters, cell states and predictions are float32.
      remat: recompute each step in the backward pass: less memory, more time.
      pad_sides: pad sides that do not divide (edge values) and crop the prediction.
    """

    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    pad_sides: bool = False

    uses_target = True
    any_length = True  # of the input, whatever T_in was in training

    @property
    def stride(self) -> int:
        """What the sides of a frame have to be divisible by."""
        raise NotImplementedError

    @property
    def patch(self) -> int:
        """Side of the patches that `advance` sees as channels."""
        return 1

    def begin(self, x: Array, steps: int) -> Carry:
        """The state before the first of `steps` frames like x [B,h,w,c]."""
        raise NotImplementedError

    def advance(
        self, state: Carry, x: Array, t: Array, train: bool
    ) -> tuple[Carry, Array, dict]:
        """State, x [B,h,w,c], step -> next state, prediction [B,h,w,c], extras."""
        raise NotImplementedError

    def tokens(self, step: Array | int, batch: int, t_in: int, t_out: int) -> Array:
        """[B,K] booleans for the last K steps: is the true frame shown?"""
        raise NotImplementedError

    def finish(self, y: Array, extras: dict, train: bool) -> None:
        """Sows losses and pictures from all predictions y [B,L,H,W,C] and the extras.

        The extras are those of `advance`, stacked over the steps.
        """

    def __call__(
        self,
        x: Array,
        *,
        frames: int | None = None,
        train: bool = False,
        target: Array | None = None,
        step: Array | int = 0,
        sampling_mask: Array | None = None,
    ) -> Array:
        """Predicts `frames` frames (as many as T_in by default); see the class."""
        shown = train or sampling_mask is not None
        self._check(x, frames, target, shown)
        (height, width), t_in = x.shape[2:4], x.shape[1]
        x = fit_sides(x, self.stride, self.pad_sides)
        if shown:
            target = fit_sides(target, self.stride, self.pad_sides)
        t_out = frames or (target.shape[1] if shown else t_in)
        steps = t_in + t_out - 1

        if sampling_mask is not None:
            mask = sampling_mask > 0.5
        elif train:
            mask = self.tokens(step, x.shape[0], t_in, t_out)
        else:
            mask = jnp.zeros((x.shape[0], t_out - 1), bool)
        free = steps - mask.shape[1]
        if free < 0:
            raise UserError(
                f"{type(self).__name__}: got a sampling_mask of {mask.shape[1]} steps; "
                f"{t_in} + {t_out} frames have {steps}"
            )
        keep = jnp.pad(mask, ((0, 0), (free, 0)), constant_values=True)
        if shown:
            video = jnp.concatenate([x, target.astype(x.dtype)], 1)[:, :steps]
        else:
            video = jnp.pad(x, ((0, 0), (0, t_out - 1), (0, 0), (0, 0), (0, 0)))
        video = to_patches(video.astype(jnp.float32), self.patch)
        y, extras = self._scan(video, keep, train)
        y = from_patches(y, self.patch)
        if not self.is_initializing():
            self.finish(y, extras, train)
        y = y[:, :, :height, :width]
        return y if shown else y[:, -t_out:]

    def begin_rollout(self, x: Array, frames: int) -> Carry:
        """Reads x [B,T_in,H,W,C] up to its last frame: a state for `go_on`.

        The state is that of the model, the frame it reads next, and the count of the
        frames read. With both functions ``model(x, frames=N)`` can be computed in
        parts that need the memory of one part.

        Args:
          x: as in a call.
          frames: at most so many may follow; only the memory of E3D-LSTM depends on
            it, which keeps all of its past.
        """
        self._check(x, frames, None, False)
        x = fit_sides(x, self.stride, self.pad_sides).astype(jnp.float32)
        x = to_patches(x, self.patch)
        x, last, read = x[:, :-1], x[:, -1], x.shape[1] - 1
        state = self.begin(jnp.zeros_like(last), read + frames)
        if read:

            def body(self, state, inputs):
                return self.advance(state, *inputs, False)[0], None

            inputs = jnp.moveaxis(x, 1, 0), jnp.arange(read)
            state, _ = _over_frames(body)(self, state, inputs)
        return state, last, jnp.int32(read)

    def go_on(self, carry: Carry, frames: int) -> tuple[Carry, Array]:
        """The next `frames` predictions [B,frames,H,W,C] and the state after them.

        Sides that were padded are not cropped.
        """

        def body(self, carry, _):
            state, x, t = carry
            state, y, _ = self.advance(state, x, t, False)
            y = y.astype(jnp.float32)
            return (state, y, t + 1), y

        carry, y = _over_frames(body, length=frames)(self, carry, None)
        return carry, from_patches(jnp.moveaxis(y, 0, 1), self.patch)

    def _scan(self, video: Array, keep: Array, train: bool) -> tuple[Array, dict]:
        """Runs `advance` over video [B,L,h,w,c], shown where keep [B,L] is true."""
        steps = video.shape[1]

        def body(self, carry, inputs):
            state, y = carry
            frame, keep, t = inputs
            x = jnp.where(keep[:, None, None, None], frame, y)
            state, y, extras = self.advance(state, x, t, train)
            y = y.astype(jnp.float32)
            return (state, y), (y, extras)

        nothing = jnp.zeros_like(video[:, 0])
        start = self.begin(nothing, steps), nothing
        inputs = (jnp.moveaxis(video, 1, 0), keep.T, jnp.arange(steps))
        if self.is_initializing():  # one step makes all parameters
            body(self, start, jax.tree.map(lambda a: a[0], inputs))
            return video, {}
        if self.remat:
            body = nn.remat(body, prevent_cse=False)
        _, (y, extras) = _over_frames(body)(self, start, inputs)
        return jnp.moveaxis(y, 0, 1), extras

    def _check(self, x, frames, target, shown) -> None:
        name = type(self).__name__
        if x.ndim != 5 or x.shape[1] < 1:
            raise UserError(
                f"{name}: got input of shape {x.shape}; expected [B,T,H,W,C], T >= 1"
            )
        divides = x.shape[2] % self.stride == x.shape[3] % self.stride == 0
        if not divides and not self.pad_sides:
            raise UserError(
                f"{name}: sides {x.shape[2]} x {x.shape[3]} are not divisible by "
                f"{self.stride}; crop or pad the frames, or choose another patch size"
            )
        if frames is not None and frames < 1:
            raise UserError(f"{name}: got frames={frames}; expected at least 1")
        if not shown:
            return
        if target is None:
            raise UserError(f"{name}: training needs target=[B,T_out,H,W,C]; got none")
        if target.shape[2:] != x.shape[2:] or target.shape[1] < (frames or 1):
            raise UserError(
                f"{name}: got target of shape {target.shape} for input {x.shape}; this "
                "model feeds its predictions back, so frames must be of one shape"
            )


def _over_frames(body, **options):
    """A scan over the frames; `body` takes the module, the carry and the inputs."""
    split = {"params": False, "dropout": True}
    return nn.scan(body, variable_broadcast="params", split_rngs=split, **options)


class Sampled(Rollout):
    """A rollout trained with scheduled or reverse scheduled sampling.

    A run shorter than `sampling_stop` updates never reaches the closed loop that
    the model is used in: set `sampling_rate` and `sampling_stop` for short runs.

    Attributes:
      sampling: 'scheduled', 'reverse', or 'none' (always the closed loop).
      sampling_rate, sampling_stop: see `sampling.scheduled_probability`.
      reverse_start, reverse_stop, reverse_alpha: `sampling.reverse_probabilities`.
    """

    sampling: str = "scheduled"
    sampling_rate: float = 2e-5
    sampling_stop: int = 50_000
    reverse_start: int = 25_000
    reverse_stop: int = 50_000
    reverse_alpha: float = 5_000.0

    def tokens(self, step: Array | int, batch: int, t_in: int, t_out: int) -> Array:
        """Tokens drawn from the `dropout` stream with the schedule's probability."""
        if self.sampling == "none":
            return jnp.zeros((batch, t_out - 1), bool)
        if self.sampling == "scheduled":
            p = scheduled_probability(step, self.sampling_rate, self.sampling_stop)
            p = jnp.broadcast_to(p, (t_out - 1,))
        elif self.sampling == "reverse":
            p_in, p_out = reverse_probabilities(
                step, self.reverse_start, self.reverse_stop, self.reverse_alpha
            )
            p = jnp.concatenate(
                [jnp.repeat(p_in, t_in - 1), jnp.repeat(p_out, t_out - 1)]
            )
        else:
            raise unknown("sampling", self.sampling, ("scheduled", "reverse", "none"))
        key = self.make_rng("dropout")
        return jax.random.uniform(key, (batch, *p.shape)) < p
