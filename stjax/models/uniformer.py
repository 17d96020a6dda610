"""UniFormer for video classification (Li et al., ICLR 2022, arXiv 2201.04676).

Convolution-like blocks where maps are large, self-attention over space and time where
they are small. Structure, names and initialisation follow the authors' code
(Sense-X/UniFormer, ``video_classification``), so that its checkpoints convert one to
one.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from stjax.errors import UserError, unknown
from stjax.layers.choice import ChoiceBlock
from stjax.layers.common import (
    BatchNorm,
    Dtype,
    conv,
    layer_norm,
    trunc_normal_init,
)
from stjax.layers.mhra import GlobalBlock, LocalBlock, SplitBlock
from stjax.layers.remat import REMAT, rematerialised
from stjax.layers.slots import Masks, Slot, built_paths
from stjax.layers.stacking import scan_blocks
from stjax.sharding.activations import clip_means, constrain_rows
from stjax.stacked import stack_name

_MIN_SIDE, _MIN_FRAMES = 32, 2


class PatchEmbed(nn.Module):
    """A convolution that cuts its input into patches, then LayerNorm (epsilon 1e-5).

    Sides that do not divide lose their rest: 112 pixels become 28, 14, 7 and 3.

    Attributes:
      features: channels that come out.
      window: size of the kernel in time, height and width.
      strides: in time, height and width.
      dtype: compute dtype.
    """

    features: int
    window: tuple[int, int, int]
    strides: tuple[int, int, int]
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, H, W, C] -> [B, T', H', W', features]."""
        project = conv(
            x.shape[-1],
            self.features,
            self.window,
            ndim=3,
            strides=self.strides,
            padding=(self.window[0] // 2, 0, 0),
            dtype=self.dtype,
            name="proj",
        )
        return layer_norm(1e-5, self.dtype, "norm")(project(x))


class UniFormer(nn.Module):
    """Four stages of blocks; frames are halved once, sides by 4, 8, 16 and 32.

    The defaults are UniFormer-S. A field of each stage has one value a stage.

    Attributes:
      num_classes: of the head.
      depth: blocks.
      embed_dim: channels.
      stages: type of the blocks: L, local MHRA; G, global MHRA.
      units: instead of `stages`, a type for every block, one for all, or ``"all"``:
        both are built. Its block 0 of stage 3 is ``blocks3_0/L`` and ``blocks3_0/G``
        where it else is ``blocks3_0``. See `stjax.layers.slots`.
      head_dim: channels of an attention head.
      mlp_ratio: hidden width of the feed-forward networks over their width.
      kernel_size: odd side of the local MHRA's neighbourhood.
      dpe: with dynamic position embeddings.
      split: divide the global MHRA into a temporal and a spatial one.
      std: patches of the later stages overlap in time (3x2x2); never in a released
        model. Despite the name, spatio-temporal down-sampling, frames stay.
      drop_path_rate: of the last block; linear from 0 at the first.
      remat: ``"none"``, or recompute blocks in the backward pass, all of them
        (``"full"``) or all but matrix products (``"dots"``).
      remat_blocks: how many of the first blocks `remat` is about; None for all. The
        authors' ``CHECKPOINT_NUM``.
      scan: run the blocks of a stage in one loop: compiles faster; see
        `stjax.stacked` for the variables.
      dtype: compute dtype; parameters, softmax and logits are float32.
    """

    num_classes: int = 400
    depth: tuple[int, ...] = (3, 4, 8, 3)
    embed_dim: tuple[int, ...] = (64, 128, 320, 512)
    stages: str = "LLGG"
    units: str | tuple[str, ...] | None = None
    head_dim: int = 64
    mlp_ratio: float = 4.0
    kernel_size: int = 5
    dpe: bool = True
    split: bool = False
    std: bool = False
    drop_path_rate: float = 0.1
    remat: str = "none"
    remat_blocks: tuple[int, ...] | None = None
    scan: bool = False
    dtype: Dtype = jnp.float32

    @property
    def slots(self) -> tuple[Slot, ...]:
        """A slot for each block, unless `stages` decides."""
        if self.units is None:
            return ()
        kinds = tuple((kind, (kind,)) for kind in "LG")
        stages = enumerate(self.depth, 1)
        names = [f"blocks{stage}_{i}" for stage, n in stages for i in range(n)]
        return tuple(Slot(name, kinds, kinds) for name in names)

    def setup(self):
        """Makes the stages."""
        self._check()
        for i, dim in enumerate(self.embed_dim):
            # Attributes name the modules: patch_embed1, blocks1_0, blocks1_1 ... or,
            # in a loop, blocks1_0to2.
            setattr(self, f"patch_embed{i + 1}", self._patch_embed(i, dim))
            setattr(self, f"blocks{i + 1}", self._blocks(i))
        self.norm = BatchNorm(dtype=self.dtype)
        self.head = nn.Dense(self.num_classes, kernel_init=trunc_normal_init)

    def __call__(
        self, x: jax.Array, *, train: bool = False, masks: Masks | None = None
    ) -> jax.Array:
        """Classifies clips.

        Args:
          x: [B, T, H, W, C], normalised; any T of at least 2 and sides of at least
            32, not only those of the training.
          train: batch statistics and drop path (rng stream 'dropout').
          masks: factors of L and G, by slot.

        Returns:
          Logits [B, num_classes] float32.

        Raises:
          UserError: if a field or the shape of `x` cannot work.
        """
        y = self.features(x, train=train, masks=masks)
        return self.head(clip_means(y))

    def features(
        self, x: jax.Array, *, train: bool = False, masks: Masks | None = None
    ) -> jax.Array:
        """The map before pooling: [B, T, H, W, C] -> [B, T/2, H/32, W/32, D]."""
        _check_clip(x)
        for i in range(len(self.depth)):
            x = constrain_rows(getattr(self, f"patch_embed{i + 1}")(x))
            x = self._stage(i, x, train, masks or {})
        return self.norm(x, train=train)

    def _patch_embed(self, stage: int, dim: int) -> PatchEmbed:
        if stage == 0:
            return PatchEmbed(dim, (3, 4, 4), (2, 4, 4), self.dtype)
        window = (3 if self.std else 1, 2, 2)
        return PatchEmbed(dim, window, (1, 2, 2), self.dtype)

    def _stage(self, stage: int, x: jax.Array, train: bool, masks: Masks) -> jax.Array:
        blocks = getattr(self, f"blocks{stage + 1}")
        before = sum(self.depth[:stage])
        for first, count, remat in self._runs(stage):
            if count == 1:
                x = blocks[str(first)](
                    x, train, masks.get(f"blocks{stage + 1}_{first}")
                )
                continue
            block = blocks[stack_name("", first, count)]
            rates = self._rates[before + first :][:count]
            x = scan_blocks(block, x, train, count, rates=rates, remat=remat)
        return x

    def _runs(self, stage: int) -> list[tuple[int, int, str]]:
        """(first, how many, remat) of blocks that make one loop, or of single ones."""
        count = self.depth[stage]
        saving = count if self.remat_blocks is None else self.remat_blocks[stage]
        parts = (0, min(saving, count), self.remat), (min(saving, count), count, "none")
        runs = []
        for start, stop, remat in parts:
            size = max(1, stop - start) if self.scan else 1
            runs += [(first, size, remat) for first in range(start, stop, size)]
        return runs

    @property
    def _rates(self) -> np.ndarray:
        """Drop-path rates of all blocks."""
        return np.linspace(0.0, self.drop_path_rate, sum(self.depth))

    def _blocks(self, stage: int) -> dict[str, nn.Module]:
        """By number, or in a loop by the numbers of the first and the last."""
        before, blocks = sum(self.depth[:stage]), {}
        for first, count, remat in self._runs(stage):
            cls, kw = self._block(stage, first)
            if count > 1:
                blocks[stack_name("", first, count)] = cls(**kw)
                continue
            saving = rematerialised(cls, remat, static_argnums=(2,))
            rate = float(self._rates[before + first])
            blocks[str(first)] = saving(drop_path_rate=rate, **kw)
        return blocks

    def _kinds(self, stage: int) -> set[str]:
        """L, G or both."""
        if self.units is None:
            return {self.stages[stage]}
        built = built_paths(self.slots, self.units).items()
        prefix = f"blocks{stage + 1}_"
        return {k for name, kinds in built if name.startswith(prefix) for k in kinds}

    def _block(self, stage: int, index: int) -> tuple[type[nn.Module], dict]:
        """Class and fields of a block."""
        if self.units is None:
            return self._kind(self.stages[stage])
        slot = self.slots[sum(self.depth[:stage]) + index]
        kinds = []
        for path in built_paths(self.slots, self.units)[slot.name]:
            cls, fields = self._kind(path)
            kinds.append((path, slot.paths.index(path), cls, tuple(fields.items())))
        return ChoiceBlock, {"kinds": tuple(kinds)}

    def _kind(self, kind: str) -> tuple[type[nn.Module], dict]:
        kw = {"mlp_ratio": self.mlp_ratio, "dpe": self.dpe, "dtype": self.dtype}
        if kind == "L":
            return LocalBlock, kw | {"kernel_size": self.kernel_size}
        cls = SplitBlock if self.split else GlobalBlock
        return cls, kw | {"head_dim": self.head_dim}

    def _check(self) -> None:
        """Raises UserError for fields that cannot work."""
        per_stage = (self.depth, self.embed_dim, self.stages)
        if any(len(values) != 4 for values in per_stage) or min(self.depth) < 1:
            raise UserError(
                f"depth {self.depth}, embed_dim {self.embed_dim} and stages "
                f"{self.stages!r} need a value for each of the 4 stages, and depths of "
                "at least 1"
            )
        if set(self.stages) - set("LG"):
            raise UserError(
                f"stages is {self.stages!r}; write L (local) or G (global) for each of "
                "the 4, such as 'LLGG'"
            )
        if self.units is not None and self.scan:
            raise UserError("with units blocks differ: set scan to False")
        for stage, dim in enumerate(self.embed_dim):
            if "G" in self._kinds(stage) and dim % self.head_dim:
                raise UserError(
                    f"head_dim {self.head_dim} does not divide the {dim} channels of a "
                    "global stage; change head_dim or embed_dim"
                )
        if self.kernel_size % 2 == 0:
            raise UserError(f"kernel_size is {self.kernel_size}; it has to be odd")
        if self.remat not in REMAT:
            raise unknown("remat", self.remat, REMAT)
        if self.remat_blocks is not None and len(self.remat_blocks) != 4:
            raise UserError(
                f"remat_blocks is {self.remat_blocks}; give a number for each of the 4 "
                "stages"
            )


def _check_clip(x: jax.Array) -> None:
    if x.ndim != 5:
        raise UserError(
            f"uniformer needs clips [B, T, H, W, C], got the shape {tuple(x.shape)}"
        )
    t, h, w = x.shape[1:4]
    if t < _MIN_FRAMES or min(h, w) < _MIN_SIDE:
        raise UserError(
            f"uniformer needs clips of at least {_MIN_FRAMES} frames and "
            f"{_MIN_SIDE}x{_MIN_SIDE} pixels, got {t} frames of {h}x{w}"
        )
