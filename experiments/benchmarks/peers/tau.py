"""TAU in PyTorch, the peer of ``stjax.models.simvp``: what OpenSTL's users run.

Written from the description of OpenSTL's ``SimVP_Model`` with the TAU translator:
channels first, exact GELU, and its names, so that `stjax.convert` carries weights over.
"""

# ruff: noqa: D102
import torch
from torch import nn
from torch.nn import functional as F

CHANNELS = {"moving_mnist": 1, "taxibj": 2}


def build(config) -> nn.Module:
    """The network of a TAU config of stjax: [B, T, C, H, W] -> the same."""
    model = config.model
    return SimVP(
        config.data.t_in,
        CHANNELS[config.data.source],
        *(model.hid_s, model.hid_t, model.n_s, model.n_t),
        *(model.mlp_ratio, model.drop_path_rate),
    )


def loss(
    model: nn.Module, batch: dict, alpha: float = 0.1, temperature: float = 0.1
) -> torch.Tensor:
    """Mean squared error + alpha * differential divergence, as OpenSTL trains TAU.

    Args:
      model: of `build`.
      batch: ``input`` and ``target``, [B, T, C, H, W] in the range of the model.
      alpha: weight of the divergence.
      temperature: of the softmax over the cells of a difference of frames.
    """
    pred, true = model(batch["input"]), batch["target"]
    p, q = (
        F.softmax((x[:, 1:] - x[:, :-1]).flatten(2) / temperature, dim=-1)
        for x in (pred, true)
    )
    divergence = p * torch.log(p / (q + 1e-12) + 1e-12)
    return F.mse_loss(pred, true) + alpha * divergence.mean()


class SimVP(nn.Module):
    """Encoder, translator, decoder."""

    def __init__(self, t, channels, hid_s, hid_t, n_s, n_t, mlp_ratio, drop_path):
        super().__init__()
        self.enc = Encoder(channels, hid_s, n_s)
        self.dec = Decoder(hid_s, channels, n_s)
        self.hid = Translator(t * hid_s, hid_t, n_t, mlp_ratio, drop_path)

    def forward(self, x):
        b, t, c, h, w = x.shape
        latent, skip = self.enc(x.reshape(b * t, c, h, w))
        shape = latent.shape
        latent = self.hid(latent.reshape(b, -1, *shape[2:]))
        return self.dec(latent.reshape(shape), skip).reshape(b, t, c, h, w)


class BasicConv2d(nn.Module):
    """Convolution (or sub-pixel up-sampling), GroupNorm, SiLU."""

    def __init__(self, c_in, c_out, stride, up):
        super().__init__()
        conv = nn.Conv2d(c_in, c_out * (4 if up else 1), 3, stride, 1)
        self.conv = nn.Sequential(conv, nn.PixelShuffle(2)) if up else conv
        self.norm = nn.GroupNorm(2, c_out)
        nn.init.trunc_normal_(conv.weight, std=0.02)
        nn.init.zeros_(conv.bias)

    def forward(self, x):
        return F.silu(self.norm(self.conv(x)))


class ConvSC(nn.Module):
    """A layer of encoder or decoder."""

    def __init__(self, c_in, c_out, stride=1, up=False):
        super().__init__()
        self.conv = BasicConv2d(c_in, c_out, stride, up)

    def forward(self, x):
        return self.conv(x)


class Encoder(nn.Module):
    """Every second layer halves the sides; the first result is the skip."""

    def __init__(self, channels, hid_s, n_s):
        super().__init__()
        layers = (
            ConvSC(hid_s if i else channels, hid_s, 1 + i % 2) for i in range(n_s)
        )
        self.enc = nn.Sequential(*layers)

    def forward(self, x):
        skip = self.enc[0](x)
        return self.enc[1:](skip), skip


class Decoder(nn.Module):
    """The reverse; the last layer sees the skip."""

    def __init__(self, hid_s, channels, n_s):
        super().__init__()
        layers = (ConvSC(hid_s, hid_s, up=i % 2 == 0) for i in range(n_s))
        self.dec = nn.Sequential(*layers)
        self.readout = nn.Conv2d(hid_s, channels, 1)

    def forward(self, x, skip):
        x = self.dec[:-1](x)
        return self.readout(self.dec[-1](x + skip))


class Translator(nn.Module):
    """TAU blocks in a row."""

    def __init__(self, channels, hid_t, n_t, mlp_ratio, drop_path):
        super().__init__()
        rates = torch.linspace(1e-2, drop_path, n_t).tolist()
        sides = [channels, *[hid_t] * (n_t - 1), channels]
        pairs = zip(sides, sides[1:], rates, strict=False)
        self.enc = nn.Sequential(*(Meta(i, o, mlp_ratio, r) for i, o, r in pairs))

    def forward(self, x):
        return self.enc(x)


class Meta(nn.Module):
    """A block, and a change of width where it is one."""

    def __init__(self, c_in, c_out, mlp_ratio, rate):
        super().__init__()
        self.block = Block(c_in, mlp_ratio, rate)
        self.reduction = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x):
        x = self.block(x)
        return x if self.reduction is None else self.reduction(x)


class Block(nn.Module):
    """Batch norm, temporal attention; batch norm, MLP."""

    def __init__(self, d, mlp_ratio, rate):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(d), nn.BatchNorm2d(d)
        self.attn, self.mlp = Attention(d), MixMlp(d, int(d * mlp_ratio))
        self.layer_scale_1 = nn.Parameter(torch.full((d,), 1e-2))
        self.layer_scale_2 = nn.Parameter(torch.full((d,), 1e-2))
        self.rate = rate

    def _drop(self, x):
        if not self.training or not self.rate:
            return x
        keep = x.new_empty(len(x), 1, 1, 1).bernoulli_(1 - self.rate)
        return x * keep.div_(1 - self.rate)

    def forward(self, x):
        s1, s2 = (s[:, None, None] for s in (self.layer_scale_1, self.layer_scale_2))
        x = x + self._drop(s1 * self.attn(self.norm1(x)))
        return x + self._drop(s2 * self.mlp(self.norm2(x)))


class Attention(nn.Module):
    """1x1, GELU, gate, 1x1, plus the input."""

    def __init__(self, d):
        super().__init__()
        self.proj_1, self.proj_2 = nn.Conv2d(d, d, 1), nn.Conv2d(d, d, 1)
        self.spatial_gating_unit = Gate(d)

    def forward(self, x):
        return self.proj_2(self.spatial_gating_unit(F.gelu(self.proj_1(x)))) + x


class Gate(nn.Module):
    """Large-kernel attention times squeeze and excitation times the input."""

    def __init__(self, d):
        super().__init__()
        self.conv0 = nn.Conv2d(d, d, 5, padding=2, groups=d)
        self.conv_spatial = nn.Conv2d(d, d, 7, padding=9, dilation=3, groups=d)
        self.conv1 = nn.Conv2d(d, d, 1)
        hidden = d // max(d // 16, 4)
        self.fc = nn.Sequential(
            nn.Linear(d, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, d, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, u):
        static = self.conv1(self.conv_spatial(self.conv0(u)))
        return self.fc(u.mean((2, 3)))[:, :, None, None] * static * u


class DWConv(nn.Module):
    """Depthwise 3x3."""

    def __init__(self, d):
        super().__init__()
        self.dwconv = nn.Conv2d(d, d, 3, padding=1, groups=d)

    def forward(self, x):
        return self.dwconv(x)


class MixMlp(nn.Module):
    """1x1, depthwise 3x3, GELU, 1x1."""

    def __init__(self, d, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(d, hidden, 1), nn.Conv2d(hidden, d, 1)
        self.dwconv = DWConv(hidden)

    def forward(self, x):
        return self.fc2(F.gelu(self.dwconv(self.fc1(x))))
