"""A depthwise convolution with its bias, and perhaps its input, in one operation."""

import flax.linen as nn
import jax

from stjax.ops.depthwise_bias import depthwise_bias


class DepthwiseConv(nn.Conv):
    """`flax.linen.Conv`, depthwise, stride 1, with a bias and explicit padding.

    The same parameters. See `stjax.ops.depthwise_bias`.

    Attributes:
      residual: add the input to the result.
    """

    residual: bool = False

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[B, *spatial, C] -> [B, *spatial', C]."""
        shape = (*self.kernel_size, 1, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, shape[-1:], self.param_dtype)
        x, kernel, bias = self.promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        return depthwise_bias(
            x,
            kernel,
            bias,
            padding=self.padding,
            dilation=self.kernel_dilation,
            residual=self.residual,
        )
