"""PredFormer: patches, gated transformers over space and time, no convolution.

Tang et al., "Video Prediction Transformers without Recurrence or Convolution" (arXiv
2410.04733). Written from a description of the method; module names are those of the
published weights where these are known (``full`` and ``quad_tsst``).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from stjax.errors import UserError, unknown
from stjax.layers.common import Dtype, layer_norm, torch_bias_init, torch_kernel_init
from stjax.layers.gated_transformer import GatedTransformer
from stjax.layers.remat import REMAT
from stjax.layers.stacking import scan_blocks
from stjax.models.recursion import extend
from stjax.models.sides import check_clip, fit_sides
from stjax.stacked import stack_name

_S, _T = "space_transformer", "temporal_transformer"
VARIANTS = {
    "full": ("space_temporal_transformer",),
    "facst": (_S, _T),
    "facts": (_T, _S),
    "binary_st": (_S, _T),
    "binary_ts": (_T, _S),
    "triplet_sts": (f"first_{_S}", _T, f"last_{_S}"),
    "triplet_tst": (f"first_{_T}", _S, f"last_{_T}"),
    "quad_stts": (f"st_{_S}", f"st_{_T}", f"ts_{_T}", f"ts_{_S}"),
    "quad_tsst": (f"ts_{_T}", f"ts_{_S}", f"st_{_S}", f"st_{_T}"),
}
"""Variant -> the transformers of one layer; the names say what they attend over."""

# These are one layer whose transformers are `n_depth` blocks deep.
_DEEP = ("full", "facst", "facts")


def positions(t: int, n: int, dim: int) -> np.ndarray:
    """[t, n, dim] float32 sines (even channels) and cosines of the token's number.

    The number is ``frame * n + place``; angles are rounded to float32 first, as in
    the original.
    """
    j = np.arange(dim)
    number = np.arange(t * n)[:, None]
    angle = (number / 10000.0 ** (2 * (j // 2) / dim)).astype(np.float32)
    table = np.where(j % 2, np.cos(angle), np.sin(angle))
    return table.reshape(t, n, dim).astype(np.float32)


def apply_over(module: nn.Module, x: jax.Array, train: bool) -> jax.Array:
    """A transformer over space, time or both, as its name says: [B, T, N, D]."""
    b, t, n, d = x.shape
    if "space" not in module.name:
        y = x.swapaxes(1, 2).reshape(b * n, t, d)
        return module(y, train=train).reshape(b, n, t, d).swapaxes(1, 2)
    both = "temporal" in module.name
    y = x.reshape((b, t * n, d) if both else (b * t, n, d))
    return module(y, train=train).reshape(b, t, n, d)


class Layer(nn.Module):
    """The transformers of a variant, one after another.

    Attributes:
      names: of the transformers, a value of `VARIANTS`.
      depth: blocks of each.
      block: fields of `GatedBlock`, as (name, value) pairs.
      remat: a name in `stjax.layers.remat.REMAT`.
    """

    names: tuple[str, ...]
    depth: int
    block: tuple[tuple[str, object], ...]
    remat: str
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, T, N, D] -> [B, T, N, D]."""
        kw = {"depth": self.depth, "block": self.block, "remat": self.remat}
        for name in self.names:
            module = GatedTransformer(**kw, dtype=self.dtype, name=name)
            x = apply_over(module, x, train)
        return x


class PredFormer(nn.Module):
    """Predicts as many frames as it sees; the defaults are the Moving MNIST model.

    Attributes:
      variant: a name in `VARIANTS`: attention over all tokens (``full``), over space
        then time (``facst``) or time then space (``facts``), or layers that alternate
        them in the order of their letters.
      patch_size: side of a patch.
      dim: width.
      heads: attention heads.
      dim_head: channels of a head.
      scale_dim: hidden width of the SwiGLU over `dim`.
      depth: blocks of each transformer of a layer (unused where there are no layers).
      n_depth: layers, or blocks of each transformer in full, facst and facts.
      dropout: of the SwiGLU.
      attn_dropout: after the attention's output projection.
      drop_path_rate: the same in all blocks.
      out_channels: None: as many as the input has.
      pad_sides: pad sides that do not divide (edge values) and crop the prediction.
      remat: a name in `stjax.layers.remat.REMAT`, applied to each block.
      scan: run the layers (in full, facst and facts: the blocks) in one loop: compiles
        faster; see `stjax.stacked` for the variables.
      dtype: compute dtype; parameters and the prediction are float32.
    """

    variant: str = "quad_tsst"
    patch_size: int = 8
    dim: int = 256
    heads: int = 8
    dim_head: int = 32
    scale_dim: int = 4
    depth: int = 1
    n_depth: int = 6
    dropout: float = 0.0
    attn_dropout: float = 0.0
    drop_path_rate: float = 0.0
    out_channels: int | None = None
    pad_sides: bool = False
    remat: str = "none"
    scan: bool = False
    dtype: Dtype = jnp.float32

    feeds_back = True  # beyond one call, see `extend`

    @nn.compact
    def __call__(
        self, x: jax.Array, *, frames: int | None = None, train: bool = False
    ) -> jax.Array:
        """Predicts `frames` frames; beyond T_in from its own predictions.

        Positions are computed, so T_in and the frame size may differ from training;
        whether the weights then predict well is another question.

        Args:
          x: [B, T_in, H, W, C_in].
          frames: how many to predict; None: T_in.
          train: dropout and drop path (rng stream 'dropout').

        Returns:
          [B, frames, H, W, C_out] float32, not clipped.

        Raises:
          UserError: if a field or the shape of `x` cannot work.
        """
        check_clip(x)
        if self.variant not in VARIANTS:
            raise unknown("variant of predformer", self.variant, VARIANTS)
        if self.remat not in REMAT:
            raise unknown("remat", self.remat, REMAT)
        if min(self.depth, self.n_depth) < 1:
            raise UserError(
                f"depth {self.depth} and n_depth {self.n_depth} must be at least 1"
            )
        embed, encode, head = self._networks(x.shape[-1])
        t, height, width = x.shape[1:4]
        grid = -(-height // self.patch_size), -(-width // self.patch_size)
        table = positions(t, grid[0] * grid[1], self.dim)

        def predict(clip):
            tokens = embed(self._tokens(clip)) + table.astype(self.dtype)
            y = head(encode(tokens, train))
            return self._frames(y, grid)[:, :, :height, :width]

        return extend(predict, x, frames or x.shape[1])

    def _networks(self, channels: int):
        p = self.patch_size
        linear = {"kernel_init": torch_kernel_init, "dtype": self.dtype}
        embed = nn.Dense(
            self.dim,
            bias_init=torch_bias_init(p * p * channels),
            name="to_patch_embedding_1",
            **linear,
        )
        norm = layer_norm(1e-5, self.dtype, "mlp_head_0")
        readout = nn.Dense(
            (self.out_channels or channels) * p * p,
            bias_init=torch_bias_init(self.dim),
            name="mlp_head_1",
            **linear,
        )
        return embed, self._encoder(), lambda x: readout(norm(x))

    def _encoder(self):
        block = (
            ("heads", self.heads),
            ("dim_head", self.dim_head),
            ("hidden", self.dim * self.scale_dim),
            ("dropout", self.dropout),
            ("attn_dropout", self.attn_dropout),
            ("drop_path_rate", self.drop_path_rate),
        )
        names = VARIANTS[self.variant]
        kw = {"block": block, "remat": self.remat, "dtype": self.dtype}
        if self.variant in _DEEP:
            kw["scan"] = self.scan
            parts = [GatedTransformer(self.n_depth, name=n, **kw) for n in names]
            call = apply_over
        elif self.scan and self.n_depth > 1:
            name = stack_name("blocks_", 0, self.n_depth)
            parts = [Layer(names, self.depth, name=name, **kw)]

            def call(part, x, train):
                return scan_blocks(part, x, train, self.n_depth)
        else:
            kw |= {"names": names, "depth": self.depth}
            parts = [Layer(name=f"blocks_{i}", **kw) for i in range(self.n_depth)]

            def call(part, x, train):
                return part(x, train)

        def encode(x, train):
            for part in parts:
                x = call(part, x, train)
            if self.variant == "facst":
                # The official FacST reads its (place, frame) order as (frame, place).
                x = x.swapaxes(1, 2).reshape(x.shape)
            return x

        return encode

    def _tokens(self, x: jax.Array) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, N, p * p * C], each patch in (py, px, c) order."""
        p = self.patch_size
        x = fit_sides(x, p, self.pad_sides).astype(self.dtype)
        b, t, h, w, c = x.shape
        x = x.reshape(b, t, h // p, p, w // p, p, c).swapaxes(3, 4)
        return x.reshape(b, t, -1, p * p * c)

    def _frames(self, y: jax.Array, grid: tuple[int, int]) -> jax.Array:
        """[B, T, N, C * p * p] in (c, py, px) order -> [B, T, H, W, C] float32."""
        p = self.patch_size
        b, t = y.shape[:2]
        h, w = grid
        y = y.reshape(b, t, h, w, -1, p, p).transpose(0, 1, 2, 5, 3, 6, 4)
        return y.reshape(b, t, h * p, w * p, -1).astype(jnp.float32)
