"""Multiply-adds of gradients and of sharded functions, in closed form."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec

from stjax.macs import count_macs
from stjax.sharding.mesh import make_mesh


def zeros(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def gradient(function):
    """Value and gradients: the forward pass counts too."""
    return jax.value_and_grad(lambda *xs: function(*xs).sum(), argnums=(0, 1))


def test_a_product_costs_twice_as_much_backward():
    got = count_macs(gradient(jnp.dot), zeros(3, 5), zeros(5, 7))
    assert got == (1 + 2) * 3 * 5 * 7


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_convolution_costs_twice_as_much_backward(stride, groups):
    def conv(x, w):
        return lax.conv_general_dilated(
            x,
            w,
            (stride, stride),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    x, w = zeros(2, 8, 8, 6), zeros(3, 3, 6 // groups, 12)
    forward = 2 * (8 // stride) ** 2 * 9 * (6 // groups) * 12
    assert count_macs(conv, x, w) == forward
    assert count_macs(gradient(conv), x, w) == (1 + 2) * forward


def test_a_transposed_convolution_costs_twice_as_much_backward():
    def conv(x, w):
        return lax.conv_general_dilated(
            x,
            w,
            (1, 1),
            ((1, 2), (1, 2)),
            lhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    x, w = zeros(2, 8, 8, 6), zeros(3, 3, 6, 5)
    forward = 2 * 64 * 9 * 6 * 5
    assert count_macs(conv, x, w) == forward
    assert count_macs(gradient(conv), x, w) == (1 + 2) * forward


@pytest.mark.parametrize("remat", [False, True])
def test_scanned_layers_count_each(remat):
    """Forward, and twice backward; once more where the forward pass is repeated."""

    def layer(x, w):
        return jnp.tanh(x @ w), None

    def network(w, x):
        return lax.scan(jax.checkpoint(layer) if remat else layer, x, w)[0]

    got = count_macs(gradient(network), zeros(6, 5, 5), zeros(3, 5))
    assert got == (4 if remat else 3) * 6 * 3 * 25


def test_custom_gradients_count_as_they_are():
    @jax.custom_vjp
    def product(x, w):
        return x @ w

    def backward(saved, g):
        x, w = saved
        return g @ w.T @ w @ w.T, x.T @ g  # two products too many

    product.defvjp(lambda x, w: (x @ w, (x, w)), backward)
    assert count_macs(product, zeros(5, 5), zeros(5, 5)) == 125
    assert count_macs(gradient(product), zeros(5, 5), zeros(5, 5)) == (1 + 4) * 125


def test_what_nobody_reads_does_not_count():
    @jax.custom_vjp
    def product(x, w):
        return x @ w

    def backward(saved, g):
        return jax.vjp(jnp.dot, *saved)[1](g)  # its forward pass is not needed

    product.defvjp(lambda x, w: (x @ w, (x, w)), backward)
    assert count_macs(gradient(jax.jit(product)), zeros(5, 5), zeros(5, 5)) == 3 * 125
    alone = jax.grad(lambda x, w: product(x, w).sum())
    assert count_macs(alone, zeros(5, 5), zeros(5, 5)) == 125
    # The forward pass of `product`, and that of its gradient rule.
    assert count_macs(alone, zeros(5, 5), zeros(5, 5), unread=True) == 4 * 125


def test_a_sharded_body_counts_on_every_device():
    mesh = make_mesh(data=4, space=2)
    rows = PartitionSpec("data")

    def product(x, w):
        return jax.shard_map(
            jnp.dot, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows
        )(x, w)

    # `space` is manual too: both of its devices compute the same rows.
    assert count_macs(product, zeros(8, 5), zeros(5, 7)) == 2 * 8 * 5 * 7
