"""Mixup, cutmix and random erasing of a batch of clips, on the device, inside jit.

The arithmetic of timm in the form of PySlowFast and UniFormer. All shapes are static,
and what is drawn depends on the key and the shapes alone, however the batch is sharded.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

_TRIES = 10  # a box of random erasing that does not fit is drawn again


def mix(
    rng: jax.Array,
    x: jax.Array,
    target: jax.Array,
    *,
    mixup: float | None = None,
    cutmix: float | None = None,
    prob: float = 1.0,
    switch_prob: float = 0.5,
) -> tuple[jax.Array, jax.Array]:
    """Mixes the clips of a batch in pairs: the first with the last, and so on.

    With one ``lambda ~ Beta(alpha, alpha)`` and one box for the whole batch: mixup is
    ``lambda x + (1 - lambda) x'``; cutmix shows the other clip in a box, the same on
    all frames, of about ``1 - lambda`` of the area. Targets are mixed alike, those of
    cutmix by the area that the box really has within the frame. (The originals draw
    once a GPU, here it is once a step.)

    Sources: Zhang et al., "mixup", ICLR 2018; Yun et al., "CutMix", ICCV 2019;
    UniFormer: mixup 0.8, cutmix 1.0.

    Args:
      rng: a key.
      x: [N, T, H, W, C], float, normalised.
      target: [N, K], soft or one-hot.
      mixup: alpha of mixup; None or 0 for none.
      cutmix: alpha of cutmix; None or 0 for none.
      prob: that the batch is mixed at all.
      switch_prob: that it is cutmix, where both are on.

    Returns:
      ``x`` and ``target``, mixed, of the same shapes and dtypes.
    """
    if not mixup and not cutmix:
        return x, target
    own = _own_share(rng, x.shape[2:4], mixup, cutmix, prob, switch_prob)
    share = own.mean()
    own = own[:, :, None].astype(x.dtype)
    x = own * x + (1 - own) * x[::-1]
    target = share * target + (1 - share) * target[::-1]
    return x, target


def _own_share(rng, size, mixup, cutmix, prob, switch_prob) -> jax.Array:
    """How much of each pixel [H, W] stays a clip's own; the mean is the target's."""
    whether, which, *rest = jax.random.uniform(rng, (8,))
    blend, cut, place = rest[:2], rest[2:4], rest[4:]
    if mixup:
        share = jnp.full(size, _symmetric_beta(blend, mixup))
    if cutmix:
        outside = 1.0 - _box(place, size, _symmetric_beta(cut, cutmix))
        share = jnp.where(which < switch_prob, outside, share) if mixup else outside
    return jnp.where(whether < prob, share, 1.0)


def _symmetric_beta(draws: Sequence[jax.Array], alpha: float) -> jax.Array:
    """Beta(alpha, alpha) from two uniform draws, without a rejection loop.

    ``t / (2 sqrt(nu + t^2)) + 1/2`` of Student's t with ``nu = 2 alpha``, which is
    ``sqrt(nu (u^(-2 / nu) - 1)) cos(2 pi v)`` (Bailey, 1994).
    """
    u, v = draws
    q, c = u ** (1 / alpha), jnp.cos(2 * jnp.pi * v)
    t = c * jnp.sqrt(1 - q)  # times sqrt(nu / q), left out on both sides
    return 0.5 + 0.5 * t / jnp.maximum(jnp.sqrt(q + t * t), 1e-30)


def _box(
    draws: Sequence[jax.Array], size: tuple[int, int], share: jax.Array
) -> jax.Array:
    """1 within cutmix's box, of the frame's aspect ratio around a random pixel."""
    inside = jnp.ones(size, jnp.float32)
    for axis, (u, n) in enumerate(zip(draws, size, strict=True)):
        half = jnp.floor(n * jnp.sqrt(1 - share)) // 2
        centre = jnp.floor(u * n)
        at = jnp.arange(n)
        within = (at >= centre - half) & (at < centre + half)
        inside *= jnp.expand_dims(within, 1 - axis)
    return inside


def erase(
    rng: jax.Array,
    x: jax.Array,
    *,
    prob: float,
    area: tuple[float, float] = (0.02, 1 / 3),
    aspect: float = 0.3,
) -> jax.Array:
    """Random erasing: a box of normal noise in some of the clips.

    Each clip has its own box, the same on all its frames, and each value in it is fresh
    noise of mean 0 and deviation 1, that of a normalised clip.

    Source: Zhong et al., "Random Erasing", AAAI 2020; timm's mode ``pixel``, count 1,
    in PySlowFast's form (``cube``). UniFormer: prob 0.25.

    Args:
      rng: a key.
      x: [N, T, H, W, C], float, normalised.
      prob: that a clip gets a box.
      area: smallest and largest share of the frame, drawn uniformly.
      aspect: smallest height / width, and 1 / largest, drawn log-uniformly.

    Returns:
      Of the shape and dtype of ``x``.
    """
    boxes, noise = jax.random.split(rng)
    draws = jax.random.uniform(boxes, (len(x), 2 * _TRIES + 3))
    inside = jax.vmap(lambda u: _erased(u, x.shape[2:4], prob, area, aspect))(draws)
    inside = inside[:, None, :, :, None]
    return jnp.where(inside, jax.random.normal(noise, x.shape, x.dtype), x)


def _erased(draws, size, prob, area, aspect) -> jax.Array:
    """Whether each pixel [H, W] of one clip is erased."""
    (height, width), tries = size, draws[3:].reshape(2, _TRIES)
    share = area[0] + (area[1] - area[0]) * tries[0]
    stretch = (0.5 - tries[1]) * math.log(aspect)  # half the log of height / width
    side = jnp.sqrt(share * height * width)
    h, w = jnp.round(side * jnp.exp(stretch)), jnp.round(side * jnp.exp(-stretch))
    fits = (h < height) & (w < width)
    first = jnp.argmax(fits)  # nothing is erased where none fits
    inside = fits[first] & (draws[0] < prob)
    lengths = zip(size, (h[first], w[first]), draws[1:3], strict=True)
    for axis, (n, length, u) in enumerate(lengths):
        start = jnp.floor(u * (n - length + 1))
        at = jnp.arange(n)
        within = (at >= start) & (at < start + length)
        inside = inside & jnp.expand_dims(within, 1 - axis)
    return inside
