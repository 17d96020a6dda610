"""The non-local block against PySlowFast's, and its parameters."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stjax.layers.non_local import NonLocal


def variables_of(z):
    """Flax variables from a PySlowFast ``Nonlocal`` state dict."""
    flat = {}
    names = {"running_mean": "mean", "running_var": "var"}
    for key in z.files:
        if not key.startswith("param/") or key.endswith("num_batches_tracked"):
            continue
        module, leaf = key.removeprefix("param/").split(".")
        value = z[key]
        collection = "batch_stats" if leaf in names else "params"
        if leaf == "weight":
            leaf = "scale" if module == "bn" else "kernel"
        if value.ndim == 5:
            value = np.moveaxis(value, (0, 1), (-1, -2))
        flat[collection, module, names.get(leaf, leaf)] = value
    return flax.traverse_util.unflatten_dict(flat)


@pytest.mark.parametrize(
    "pairwise,name",
    [("embedded_gaussian", "softmax"), ("dot_product", "dot_product")],
)
def test_parity_with_slowfast(golden, pairwise, name):
    z = golden(f"nonlocal_{name}_nopool.npz")
    x = np.moveaxis(z["input"], 1, -1)
    block = NonLocal(pairwise=pairwise)
    y = jax.jit(lambda v: block.apply(v, x, train=False))(variables_of(z))
    ref = np.moveaxis(z["output"], 1, -1)
    assert np.abs(y - ref).max() <= 1e-5 * np.abs(ref).max()


@pytest.mark.parametrize("c,expected", [(256, 132_224), (1024, 2_101_760)])
def test_parameters(c, expected):
    def count(**fields):
        v = jax.eval_shape(
            lambda: NonLocal(**fields).init(
                jax.random.key(0), jnp.zeros((1, 2, 3, 3, c)), train=False
            )
        )
        return sum(p.size for p in jax.tree.leaves(v["params"]))

    assert count() == expected
    # Without theta and phi: two of the four convolutions go.
    assert count(pairwise="gaussian") == expected - 2 * (c * c // 2 + c // 2)
