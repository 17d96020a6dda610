"""Non-local I3D in PyTorch, the peer of ``stjax.models.resnet3d``.

Written from the description of PySlowFast's ``ResNet`` of I3D with softmax non-local
blocks (channels first) and under its names, so that `stjax.convert` carries the weights
across.
"""

# ruff: noqa: D101, D102

import torch
from torch import nn
from torch.nn import functional as F


def build(config) -> nn.Module:
    """The network of an I3D config, [B, C, T, H, W] -> logits [B, K].

    Args:
      config: an `ml_collections.ConfigDict` with ``model.name`` ``"i3d_r50"`` or
        ``"i3d_r101"``, PySlowFast's stem and embedded Gaussians.
    """
    # Here: a process that only runs the network does not need JAX in its memory.
    from stjax.models.registry import model_fields
    from stjax.models.resnet3d import BLOCKS, non_local_places

    given = {k: v for k, v in config.model.to_dict().items() if v is not None}
    fields = model_fields(given["name"]) | given
    depth = fields["depth"]
    places = fields["places"] or non_local_places(depth, fields["non_local"])
    return ResNet(
        fields["num_classes"],
        BLOCKS[depth],
        set(places),
        fields["pool"],
        fields["dropout"],
        fields["zero_init"],
    )


def loss(model: nn.Module, batch: dict) -> torch.Tensor:
    """Cross-entropy.

    Args:
      model: of `build`.
      batch: ``input`` [B, C, T, H, W], normalised, and ``target`` [B], class numbers.
    """
    return F.cross_entropy(model(batch["input"]), batch["target"])


def _conv(before: int, features: int, window, strides=(1, 1, 1)) -> nn.Conv3d:
    padding = tuple(k // 2 for k in window)
    return nn.Conv3d(before, features, window, strides, padding, bias=False)


class Stem(nn.Module):
    def __init__(self, features: int):
        super().__init__()
        self.conv = _conv(3, features, (5, 7, 7), (1, 2, 2))
        self.bn = nn.BatchNorm3d(features)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)), inplace=True)
        return F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))


class Branch(nn.Module):
    def __init__(self, before: int, inner: int, span: int, stride: int):
        super().__init__()
        self.a = _conv(before, inner, (span, 1, 1))
        self.a_bn = nn.BatchNorm3d(inner)
        self.b = _conv(inner, inner, (1, 3, 3), (1, stride, stride))
        self.b_bn = nn.BatchNorm3d(inner)
        self.c = _conv(inner, 4 * inner, (1, 1, 1))
        self.c_bn = nn.BatchNorm3d(4 * inner)

    def forward(self, x):
        x = F.relu(self.a_bn(self.a(x)), inplace=True)
        x = F.relu(self.b_bn(self.b(x)), inplace=True)
        return self.c_bn(self.c(x))


class ResBlock(nn.Module):
    def __init__(self, before: int, inner: int, span: int, stride: int):
        super().__init__()
        if before != 4 * inner or stride > 1:
            strides = 1, stride, stride
            self.branch1 = _conv(before, 4 * inner, (1, 1, 1), strides)
            self.branch1_bn = nn.BatchNorm3d(4 * inner)
        self.branch2 = Branch(before, inner, span, stride)

    def forward(self, x):
        y = self.branch2(x)
        if hasattr(self, "branch1"):
            x = self.branch1_bn(self.branch1(x))
        return F.relu(x + y, inplace=True)


class NonLocal(nn.Module):
    def __init__(self, dim: int, pool: int):
        super().__init__()
        inner, self.pool = dim // 2, pool
        self.conv_theta = nn.Conv3d(dim, inner, 1)
        self.conv_phi = nn.Conv3d(dim, inner, 1)
        self.conv_g = nn.Conv3d(dim, inner, 1)
        self.conv_out = nn.Conv3d(inner, dim, 1)
        self.bn = nn.BatchNorm3d(dim)

    def forward(self, x):
        small = F.max_pool3d(x, (1, self.pool, self.pool)) if self.pool > 1 else x
        theta = self.conv_theta(x).flatten(2)
        phi, g = self.conv_phi(small).flatten(2), self.conv_g(small).flatten(2)
        logits = theta.transpose(1, 2) @ phi * theta.shape[1] ** -0.5
        y = g @ logits.softmax(-1).transpose(1, 2)
        y = y.reshape(x.shape[0], -1, *x.shape[2:])
        return x + self.bn(self.conv_out(y))


class Stage(nn.Module):
    def __init__(self, number: int, count: int, places: set[str], pool: int):
        super().__init__()
        inner = 64 * 2 ** (number - 2)
        before = 64 if number == 2 else 2 * inner
        for i in range(count):
            # Frames are mixed in all of res2, in every other block after it.
            span = 3 if number == 2 or i % 2 == (number == 5) else 1
            stride = 2 if number > 2 and i == 0 else 1
            self.add_module(f"pathway0_res{i}", ResBlock(before, inner, span, stride))
            before = 4 * inner
            if f"res{number}_{i}" in places:
                self.add_module(f"pathway0_nonlocal{i}", NonLocal(before, pool))

    def forward(self, x):
        for block in self.children():
            x = block(x)
        return x


class Head(nn.Module):
    def __init__(self, dim: int, num_classes: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(dim, num_classes)

    def forward(self, x):
        return self.projection(self.dropout(x.mean((2, 3, 4))))


class StemStage(nn.Module):
    def __init__(self):
        super().__init__()
        self.pathway0_stem = Stem(64)

    def forward(self, x):
        return self.pathway0_stem(x)


class ResNet(nn.Module):
    def __init__(self, num_classes, counts, places, pool, dropout, zero_init):
        super().__init__()
        self.s1 = StemStage()
        for number, count in enumerate(counts, 2):
            self.add_module(f"s{number}", Stage(number, count, places, pool))
        self.head = Head(2048, num_classes, dropout)
        for m in self.modules():
            last = {Branch: "c_bn", NonLocal: "bn"}.get(type(m))
            if last and zero_init:
                nn.init.zeros_(getattr(m, last).weight)

    def forward(self, x):
        x = F.max_pool3d(self.s2(self.s1(x)), (2, 1, 1))
        return self.head(self.s5(self.s4(self.s3(x))))
