"""The MLP-Mixer block (Tolstikhin et al., NeurIPS 2021, 2105.01601) as a translator."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from stjax.errors import UserError
from stjax.layers.common import DropPath, Dtype, layer_norm
from stjax.layers.mlp import Mlp
from stjax.sharding.activations import constrain


class MlpMixerBlock(nn.Module):
    """An MLP over positions, then one over channels.

    The first has a weight for every pair of position and hidden unit, so the frame
    size is fixed at birth. Its hidden width is D / 2, as in timm's block that OpenSTL
    uses (the ratio of 0.5 applies to D there, not to the number of positions).
    """

    mlp_ratio: float = 8.0
    drop_path_rate: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, D] -> [B, h, w, D].

        Raises:
          UserError: if h * w is not what the weights were made for.
        """
        b, h, w, d = x.shape
        if self.has_variable("params", "mlp_tokens"):
            kernel = self.variables["params"]["mlp_tokens"]["fc1"]["kernel"]
            if kernel.shape[0] != h * w:
                raise UserError(
                    f"translator 'mlpmixer' has weights for {kernel.shape[0]} "
                    f"positions, got {h}x{w} = {h * w}: it predicts only the frame "
                    "size it was trained on; resize the frames or train anew"
                )
        drop_path = DropPath(self.drop_path_rate)
        x = x.reshape(b, h * w, d)
        y = layer_norm(1e-6, self.dtype, "norm1")(x).swapaxes(1, 2)
        y = Mlp(d // 2, self.dtype, name="mlp_tokens")(y).swapaxes(1, 2)
        # Else results are split as the weights are (fsdp), and go all-to-all.
        x = constrain(x + drop_path(y, train=train), "batch", "tokens")
        y = layer_norm(1e-6, self.dtype, "norm2")(x)
        y = Mlp(int(d * self.mlp_ratio), self.dtype, name="mlp_channels")(y)
        return (x + drop_path(y, train=train)).reshape(b, h, w, d)
