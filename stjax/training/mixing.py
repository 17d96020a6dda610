"""Mixup, cutmix and random erasing of a batch of clips, on the device, inside jit.

The arithmetic of timm in the form of PySlowFast and UniFormer. All shapes are static,
and what is drawn depends on the key and the shapes alone, however the batch is sharded.
"""

import math

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
    whether, which, for_mixup, for_cutmix, place = jax.random.split(rng, 5)
    if mixup:
        share = jnp.full(size, _symmetric_beta(for_mixup, mixup))
    if cutmix:
        share_cut = _symmetric_beta(for_cutmix, cutmix)
        outside = 1.0 - _box(place, size, share_cut)
        if mixup:
            share = jnp.where(jax.random.bernoulli(which, switch_prob), outside, share)
        else:
            share = outside
    return jnp.where(jax.random.bernoulli(whether, prob), share, 1.0)


def _symmetric_beta(rng: jax.Array, alpha: float) -> jax.Array:
    """A draw of Beta(alpha, alpha) without the rejection loop of `jax.random.beta`.

    ``t / (2 sqrt(nu + t^2)) + 1/2`` of Student's t with ``nu = 2 alpha``, which is
    ``sqrt(nu (u^(-2 / nu) - 1)) cos(2 pi v)`` (Bailey, 1994).
    """
    u, v = jax.random.uniform(rng, (2,))
    q, c = u ** (1 / alpha), jnp.cos(2 * jnp.pi * v)
    t = c * jnp.sqrt(1 - q)  # times sqrt(nu / q), left out on both sides
    return 0.5 + 0.5 * t / jnp.maximum(jnp.sqrt(q + t * t), 1e-30)


def _box(rng: jax.Array, size: tuple[int, int], share: jax.Array) -> jax.Array:
    """1 within cutmix's box, of the frame's aspect ratio around a random pixel."""
    inside = jnp.ones(size, jnp.float32)
    for axis, (key, n) in enumerate(zip(jax.random.split(rng), size, strict=True)):
        half = jnp.floor(n * jnp.sqrt(1 - share)).astype(jnp.int32) // 2
        centre = jax.random.randint(key, (), 0, n)
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
    n, _, height, width, _ = x.shape
    boxes, noise = jax.random.split(rng)
    draw = jax.vmap(lambda key: _erased(key, (height, width), prob, area, aspect))
    inside = draw(jax.random.split(boxes, n))[:, None, :, :, None]
    return jnp.where(inside, jax.random.normal(noise, x.shape, x.dtype), x)


def _erased(rng, size, prob, area, aspect) -> jax.Array:
    """Whether each pixel [H, W] of one clip is erased."""
    whether, for_area, for_aspect, place = jax.random.split(rng, 4)
    height, width = size
    limit = -math.log(aspect)
    share = jax.random.uniform(for_area, (_TRIES,), minval=area[0], maxval=area[1])
    ratio = jax.random.uniform(for_aspect, (_TRIES,), minval=-limit, maxval=limit)
    side = jnp.sqrt(share * height * width)
    h = jnp.round(side * jnp.exp(ratio / 2))
    w = jnp.round(side * jnp.exp(-ratio / 2))
    fits = (h < height) & (w < width)
    first = jnp.argmax(fits)  # nothing is erased where none fits
    inside = fits[first] & jax.random.bernoulli(whether, prob)
    lengths = zip(
        size, (h[first], w[first]), jax.random.uniform(place, (2,)), strict=True
    )
    for axis, (n, length, where) in enumerate(lengths):
        start = jnp.floor(where * (n - length + 1))
        at = jnp.arange(n)
        within = (at >= start) & (at < start + length)
        inside = inside & jnp.expand_dims(within, 1 - axis)
    return inside
