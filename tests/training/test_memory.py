"""``remat`` saves memory in every family of models, by XLA's own account."""

import jax
import jax.numpy as jnp
import pytest

import stjax

TRANSLATOR = {"hid_s": 8, "hid_t": 16, "n_s": 2, "n_t": 6, "mlp_ratio": 4.0}
FAMILIES = {
    "tau": ("tau", TRANSLATOR, (2, 32, 32, 1)),
    "tau_loop": ("tau", TRANSLATOR | {"scan": True}, (2, 32, 32, 1)),
    "incepu": ("simvp", TRANSLATOR | {"translator": "incepu"}, (2, 32, 32, 1)),
    "uniformer": (
        "uniformer_s",
        {"depth": (2, 2, 2, 2), "embed_dim": (8, 8, 16, 16), "head_dim": 8},
        (4, 64, 64, 3),
    ),
    "uniformer_loop": (
        "uniformer_s",
        {
            "depth": (2, 2, 2, 2),
            "embed_dim": (8, 8, 16, 16),
            "head_dim": 8,
            "scan": True,
        },
        (4, 64, 64, 3),
    ),
    "c2d_loop": ("c2d_r50", {"width": 4, "scan": True}, (4, 64, 64, 3)),
    "predformer": (
        "predformer",
        {"dim": 16, "heads": 2, "dim_head": 8, "n_depth": 2},
        (4, 32, 32, 1),
    ),
    "recurrent": ("convlstm", {"num_hidden": (16,), "patch_size": 4}, (6, 32, 32, 1)),
    "phydnet": ("phydnet", {}, (4, 32, 32, 1)),
}


def loss_of(name: str, remat):
    """A loss of the parameters of a model, and these; nothing is computed."""
    model, fields, shape = FAMILIES[name]
    model = stjax.create_model(model, remat=remat, **fields)
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(lambda k, x: model.init(k, x), key, x)
    params = variables.pop("params")
    uses_target = getattr(model, "uses_target", False)

    def loss(params, rest, x, key):
        y, _ = model.apply(
            {"params": params, **rest},
            x,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats", "losses"],
            **({"target": x} if uses_target else {}),
        )
        return jnp.square(y).mean()

    return loss, (params, variables, x, key)


def kept(name: str, remat) -> int:
    """Bytes that the forward pass leaves to the backward pass."""
    loss, args = loss_of(name, remat)

    def residuals(params, *rest):
        return jax.vjp(lambda params: loss(params, *rest), params)[1]

    leaves = jax.tree.leaves(jax.eval_shape(residuals, *args))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


@pytest.mark.parametrize("name", FAMILIES)
def test_full_remat_saves_memory(name):
    recurrent = FAMILIES[name][0] in ("convlstm", "phydnet")
    off, on = (False, True) if recurrent else ("none", "full")
    assert kept(name, on) < 0.65 * kept(name, off)


@pytest.mark.parametrize("name", ["tau", "uniformer"])
def test_keeping_products_is_in_between(name):
    nothing, products, everything = (kept(name, r) for r in ("full", "dots", "none"))
    assert nothing < products < everything


def test_the_compiler_needs_less():
    # In a loop: outside of one, XLA:CPU merges what is computed again.
    def temporary(remat):
        loss, args = loss_of("tau_loop", remat)
        # The question is what is kept, not how well it is fused.
        options = {"xla_backend_optimization_level": 0}
        lowered = jax.jit(jax.grad(loss), compiler_options=options).lower(*args)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporary("full") < 0.6 * temporary("none")
