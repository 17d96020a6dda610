"""Moving digits made on the device: training without an input pipeline.

The law of `stjax.data.moving_digits` as a jittable function. A digit is drawn by two
products with one-hot matrices, which is what a TPU does best; pixels have 8 bits, so
products in bfloat16 are exact. The only module of `stjax.data` that uses JAX.
"""

import jax
import jax.numpy as jnp

from stjax.data.moving_digits import STEP


def bounce(position: jax.Array, velocity: jax.Array, frames: int) -> jax.Array:
    """Coordinates over time; see `stjax.data.moving_digits.bounce`.

    Args:
      position: [...] where they start, in [0, 1]; not itself recorded.
      velocity: [...] the change per frame.
      frames: how many values to record.

    Returns:
      Coordinates [frames, ...] in [0, 1]. What reaches a wall is set onto it and turns
      around.
    """

    def move(carry, _):
        position, velocity = carry
        position = position + velocity
        turned = (position <= 0) | (position >= 1)
        position = jnp.clip(position, 0, 1)
        return (position, jnp.where(turned, -velocity, velocity)), position

    return jax.lax.scan(move, (position, velocity), length=frames)[1]


def draw(images: jax.Array, corners: jax.Array, height: int, width: int) -> jax.Array:
    """Draws digits at their offsets, overlapping by the maximum, on black.

    Args:
      images: [B, K, h, w] uint8.
      corners: [T, B, K, 2] integers, (row, column) of the upper left corners.
      height: rows of a frame.
      width: columns of a frame.

    Returns:
      [B, T, height, width] uint8.
    """
    h, w = images.shape[-2:]
    rows = corners[..., 0, None, None] + jnp.arange(h)[:, None] == jnp.arange(height)
    columns = corners[..., 1, None, None] + jnp.arange(w)[:, None] == jnp.arange(width)
    # float32 on paper: at default precision a TPU takes bfloat16, and that is exact.
    rows, columns, images = (a.astype(jnp.float32) for a in (rows, columns, images))
    wide = jnp.einsum("bkij,tbkjc->tbkic", images, columns)
    frames = jnp.einsum("tbkir,tbkic->tbkrc", rows, wide)
    return frames.max(2).astype(jnp.uint8).swapaxes(0, 1)


def moving_digits(
    key: jax.Array,
    digits: jax.Array,
    clips: int,
    *,
    frames: int = 20,
    height: int = 64,
    width: int = 64,
    num_digits: int = 2,
    step: float = STEP,
) -> jax.Array:
    """Clips of digits that drift and bounce; jittable.

    The law is that of `stjax.data.moving_digits.moving_digits` (which digits, where
    they start, in which direction, walls, truncation), the clips are others.

    Args:
      key: the only source of randomness.
      digits: [N, h, w] uint8 to choose from, with replacement.
      clips: B.
      frames: T.
      height: rows of a frame, at least h.
      width: columns of a frame, at least w.
      num_digits: digits in a clip.
      step: movement per frame in units of the canvas, the frame minus the digit.

    Returns:
      [B, T, height, width, 1] uint8.
    """
    h, w = digits.shape[1:]
    if h > height or w > width:
        raise ValueError(f"digits of {h}x{w} do not fit in frames of {height}x{width}")
    # One draw for all: it compiles in a third of the time of four.
    bits = jax.random.bits(key, (clips, num_digits, 4))
    images = digits[bits[..., 0] % len(digits)]
    unit = (bits[..., 1:] >> 8).astype(jnp.float32) * 2.0**-24  # [0, 1)
    start, theta = unit[..., :2], 2 * jnp.pi * unit[..., 2]
    velocity = step * jnp.stack([jnp.sin(theta), jnp.cos(theta)], -1)
    canvas = jnp.array([height - h, width - w], jnp.float32)
    corners = (bounce(start, velocity, frames) * canvas).astype(jnp.int32)
    return draw(images, corners, height, width)[..., None]
