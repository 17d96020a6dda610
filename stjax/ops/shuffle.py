"""Moving values between space and channels."""

import jax
import jax.numpy as jnp


def pixel_shuffle(x: jax.Array, factor: int = 2) -> jax.Array:
    """[..., H, W, C * factor^2] -> [..., H * factor, W * factor, C].

    Channel ``c * factor^2 + i * factor + j`` goes to row offset i, column offset j
    of channel c (PyTorch's PixelShuffle).

    Raises:
      ValueError: if the channels are not divisible by ``factor ** 2``.
    """
    *lead, h, w, channels = x.shape
    if channels % factor**2:
        raise ValueError(f"{channels} channels are not divisible by {factor**2}")
    c = channels // factor**2
    n = len(lead)
    x = x.reshape(*lead, h, w, c, factor, factor)
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return x.transpose(order).reshape(*lead, h * factor, w * factor, c)


@jax.custom_vjp
def spread_pixels(x: jax.Array) -> jax.Array:
    """[N, H, W, 4 C] -> [N, 2 H, 2 W, C], as `pixel_shuffle` of other channels.

    Channel ``(2 i + j) * C + c`` goes to row offset i, column offset j of channel c, so
    that what moves are rows of whole pixels. Reverse mode only: the gradient takes even
    and odd rows out, where a TPU would copy all of it in another layout.
    """
    n, h, w, channels = x.shape
    x = x.reshape(n, h, w, 2, channels // 2).swapaxes(2, 3)
    return x.reshape(n, 2 * h, 2 * w, channels // 4)


def _spread_forward(x):
    return spread_pixels(x), None


def _spread_backward(_, dy):
    n, h, w, channels = dy.shape
    rows = dy.reshape(n, h // 2, 2, w // 2, 2 * channels)
    return (jnp.concatenate([rows[:, :, 0], rows[:, :, 1]], axis=-1),)


spread_pixels.defvjp(_spread_forward, _spread_backward)
