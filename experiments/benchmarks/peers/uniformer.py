"""UniFormer in PyTorch, the peer of ``stjax.models.uniformer``.

Written from the description of Sense-X/UniFormer's ``video_classification`` (channels
first, attention as two products and a softmax) and under its names, so that
`stjax.convert` carries the weights across.
"""

# ruff: noqa: D101, D102

import torch
from torch import nn
from torch.nn import functional as F


def build(config) -> nn.Module:
    """The network of a UniFormer config, [B, C, T, H, W] -> logits [B, K].

    Args:
      config: an `ml_collections.ConfigDict` with ``model.name`` of a UniFormer.
    """
    # Here: a process that only runs the network does not need JAX in its memory.
    from stjax.models.registry import model_fields

    given = {k: v for k, v in config.model.to_dict().items() if v is not None}
    fields = model_fields(given["name"]) | given
    names = "depth", "embed_dim", "stages", "head_dim", "mlp_ratio", "kernel_size"
    rate = fields["drop_path_rate"]
    return UniFormer(fields["num_classes"], rate, **{k: fields[k] for k in names})


def loss(model: nn.Module, batch: dict) -> torch.Tensor:
    """Cross-entropy.

    Args:
      model: of `build`.
      batch: ``input`` [B, C, T, H, W], normalised, and ``target`` [B], class numbers.
    """
    return F.cross_entropy(model(batch["input"]), batch["target"])


class DropPath(nn.Module):
    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training or self.rate == 0:
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        return x * x.new_empty(shape).bernoulli_(1 - self.rate).div_(1 - self.rate)


class PatchEmbed(nn.Module):
    def __init__(self, before: int, dim: int, window, strides):
        super().__init__()
        padding = window[0] // 2, 0, 0
        self.proj = nn.Conv3d(before, dim, window, strides, padding)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x):
        x = self.proj(x)
        b, c, t, h, w = x.shape
        x = self.norm(x.flatten(2).transpose(1, 2))
        return x.reshape(b, t, h, w, c).permute(0, 4, 1, 2, 3).contiguous()


class Mlp(nn.Module):
    """Two layers, linear or (``conv``) 1x1x1 convolutions, and GELU between them."""

    def __init__(self, dim: int, hidden: int, conv: bool):
        super().__init__()
        layer = (lambda a, b: nn.Conv3d(a, b, 1)) if conv else nn.Linear
        self.fc1, self.fc2 = layer(dim, hidden), layer(hidden, dim)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class LocalBlock(nn.Module):
    def __init__(self, dim: int, ratio: float, window: int, rate: float):
        super().__init__()
        self.pos_embed = nn.Conv3d(dim, dim, 3, padding=1, groups=dim)
        self.norm1 = nn.BatchNorm3d(dim)
        self.conv1 = nn.Conv3d(dim, dim, 1)
        self.attn = nn.Conv3d(dim, dim, window, padding=window // 2, groups=dim)
        self.conv2 = nn.Conv3d(dim, dim, 1)
        self.norm2 = nn.BatchNorm3d(dim)
        self.mlp = Mlp(dim, int(dim * ratio), conv=True)
        self.drop_path = DropPath(rate)

    def forward(self, x):
        x = x + self.pos_embed(x)
        x = x + self.drop_path(self.conv2(self.attn(self.conv1(self.norm1(x)))))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        b, n, d = x.shape
        shape = b, n, 3, self.heads, d // self.heads
        q, k, v = self.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4)
        logits = q @ k.transpose(-2, -1) * (d // self.heads) ** -0.5
        y = logits.softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(b, n, d))


class GlobalBlock(nn.Module):
    def __init__(self, dim: int, ratio: float, head_dim: int, rate: float):
        super().__init__()
        self.pos_embed = nn.Conv3d(dim, dim, 3, padding=1, groups=dim)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, dim // head_dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * ratio), conv=False)
        self.drop_path = DropPath(rate)

    def forward(self, x):
        x = x + self.pos_embed(x)
        shape = x.shape
        x = x.flatten(2).transpose(1, 2)
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x.transpose(1, 2).reshape(shape)


class UniFormer(nn.Module):
    def __init__(
        self,
        num_classes: int,
        rate: float,
        depth,
        embed_dim,
        stages: str,
        head_dim: int,
        mlp_ratio: float,
        kernel_size: int,
    ):
        super().__init__()
        rates = iter(torch.linspace(0, rate, sum(depth)).tolist())
        before = 3
        for i, (count, dim, kind) in enumerate(
            zip(depth, embed_dim, stages, strict=True), 1
        ):
            window, strides = ((3, 4, 4), (2, 4, 4)) if i == 1 else ((1, 2, 2),) * 2
            setattr(self, f"patch_embed{i}", PatchEmbed(before, dim, window, strides))
            cls = LocalBlock if kind == "L" else GlobalBlock
            size = kernel_size if kind == "L" else head_dim
            blocks = [cls(dim, mlp_ratio, size, next(rates)) for _ in range(count)]
            setattr(self, f"blocks{i}", nn.ModuleList(blocks))
            before = dim
        self.norm = nn.BatchNorm3d(before)
        self.head = nn.Linear(before, num_classes)

    def forward(self, x):
        for i in range(1, 5):
            x = getattr(self, f"patch_embed{i}")(x)
            for block in getattr(self, f"blocks{i}"):
                x = block(x)
        return self.head(self.norm(x).mean((2, 3, 4)))
