"""Moving values between space and channels."""

import jax


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
