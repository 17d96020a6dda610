"""Probes: small classifiers on the features of a backbone that stays as it is."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.errors import UserError
from stjax.layers.common import Dtype, gelu, layer_norm, trunc_normal_init
from stjax.models.registry import create_model, model_fields
from stjax.ops.attention import attention
from stjax.sharding.activations import clip_means, fold


class _Probe(nn.Module):
    """What the probes share: a frozen backbone, whose parameters are ``backbone/...``.

    ``frozen`` goes to the optimizer's ``freeze``; ``train.init_from`` maps weights of
    the backbone's own model into it. Batch statistics of the backbone stay, too: it
    runs with ``train=False``.
    """

    backbone: Mapping[str, object] | nn.Module
    num_classes: int = 400
    dtype: Dtype = jnp.float32

    frozen = ("^backbone/",)

    def __post_init__(self):
        if isinstance(self.backbone, Mapping):
            self.backbone = _backbone(self.backbone, self.dtype)
        super().__post_init__()

    def frozen_features(self, x: jax.Array) -> jax.Array:
        """[B, T, H, W, C] -> [B, T'H'W', D]; no gradient reaches the backbone."""
        if not callable(getattr(self.backbone, "features", None)):
            raise UserError(
                f"a probe needs features, but {type(self.backbone).__name__} has no"
                " method features(x, *, train) -> [B, T', H', W', D]"
            )
        y = jax.lax.stop_gradient(self.backbone.features(x, train=False))
        return fold(y)


class LinearProbe(_Probe):
    """A linear layer on the mean feature of a frozen backbone.

    Attributes:
      backbone: ``{"name": ..., **fields}`` of `stjax.create_model`, or a module with a
        method ``features(x, *, train) -> [B, T', H', W', D]``.
      num_classes: K.
      dtype: compute dtype of the backbone; the probe is float32.
    """

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[B, T, H, W, C], normalised -> logits [B, K] float32."""
        del train
        y = clip_means(self.frozen_features(x))
        return nn.Dense(self.num_classes, kernel_init=trunc_normal_init, name="head")(y)


class AttentiveProbe(_Probe):
    """One learned query that attends to all features of a frozen backbone.

    The query gathers what it needs by cross-attention and passes an MLP, both with
    residuals and LayerNorm before them; a linear layer reads it. It sees order in
    space and time only where the features carry it. Source: the attentive probe of
    V-JEPA (Bardes et al., 2024, arXiv 2404.08471), one block.

    Attributes:
      backbone: as in `LinearProbe`.
      num_classes: K.
      dtype: compute dtype of the backbone; the probe is float32.
      num_heads: of the attention; divides the features' D.
      mlp_ratio: hidden width of the MLP over D.
    """

    num_heads: int = 8
    mlp_ratio: float = 4.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[B, T, H, W, C], normalised -> logits [B, K] float32.

        Raises:
          UserError: the heads do not divide the features.
        """
        del train
        y = self.frozen_features(x).astype(jnp.float32)
        b, _, d = y.shape
        if d % self.num_heads:
            raise UserError(
                f"num_heads={self.num_heads} does not divide the {d} channels of the"
                " features; change model.num_heads"
            )

        def dense(features, name):
            return nn.Dense(features, kernel_init=trunc_normal_init, name=name)

        def heads(z, name):
            return dense(d, name)(z).reshape(b, -1, self.num_heads, d // self.num_heads)

        query = self.param("query", trunc_normal_init, (1, d))
        query = jnp.broadcast_to(query, (b, 1, d))
        y = layer_norm(1e-6, jnp.float32, "norm1")(y)
        q, k, v = heads(query, "q"), heads(y, "k"), heads(y, "v")
        found = attention(q, k, v, scale=q.shape[-1] ** -0.5).reshape(b, 1, d)
        query += dense(d, "proj")(found)
        hidden = layer_norm(1e-6, jnp.float32, "norm2")(query)
        hidden = gelu(dense(int(d * self.mlp_ratio), "fc1")(hidden))
        query += dense(d, "fc2")(hidden)
        return dense(self.num_classes, "head")(query[:, 0])


def _backbone(fields: Mapping[str, object], dtype: Dtype) -> nn.Module:
    fields = {
        # JSON keeps no tuples, and None leaves a field to its default.
        k: tuple(v) if isinstance(v, list) else v
        for k, v in fields.items()
        if v is not None
    }
    if "name" not in fields:
        raise UserError(
            f"model.backbone has no name (only {sorted(fields)}); set for example"
            " backbone={'name': 'uniformer_s'}"
        )
    name = fields.pop("name")
    known = model_fields(name)
    if "dtype" in known:
        fields.setdefault("dtype", dtype)
    return create_model(name, **fields)
