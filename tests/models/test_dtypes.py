"""The policy of mixed precision, read off the programs of all models.

Parameters, statistics and what comes out are float32; with ``dtype=bfloat16`` products
are of bfloat16, but for those listed here.
"""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.extend import core

import stjax

_FRAMES, _CLIP = (2, 32, 32, 1), (4, 64, 64, 3)
_UNIFORMER = {"depth": (1, 1, 1, 1), "embed_dim": (8, 8, 16, 16), "head_dim": 8}
_RESNET = {"width": 4, "num_classes": 3}
_CELLS = {"num_hidden": (8, 8)}
FIELDS = {
    "simvp": {"hid_s": 4, "hid_t": 16, "n_s": 2, "n_t": 2},
    "tau": {"hid_s": 4, "hid_t": 16, "n_s": 2, "n_t": 2},
    "simvp_mixed": {"hid_s": 4, "hid_t": 16, "n_s": 2, "n_t": 2},
    "predformer": {"dim": 16, "heads": 2, "dim_head": 8, "n_depth": 1},
    "convlstm": _CELLS,
    "predrnn": _CELLS,
    "predrnnpp": _CELLS,
    "predrnnv2": _CELLS,
    "mim": _CELLS,
    "mau": _CELLS,
    "e3dlstm": _CELLS,
    "swinlstm": {},
    "swinlstm_b": {},
    "phydnet": {},
    "c2d_r50": _RESNET,
    "i3d_r50": _RESNET | {"non_local": 1},
    "uniformer_s": _UNIFORMER,
    "uniformer_mixed": _UNIFORMER,
    "fusion_toy": {},
    "densenet121_3d": {"width": 8, "growth": 4, "blocks": (1, 1)},
    "fusion_resnet50": {"width": 8, "blocks": (1, 1)},
    "fusion_mobilenetv2": {
        "width": 8,
        "stages": ((1, 8, 1, 2), (6, 8, 1, 1)),
        "last": 16,
    },
}


def products(jaxpr: core.Jaxpr, where=""):
    """(primitive, place, dtypes of operands, shapes) of convolutions and products."""
    for eqn in jaxpr.eqns:
        place = "/".join(filter(None, (where, str(eqn.source_info.name_stack))))
        if eqn.primitive.name in ("conv_general_dilated", "dot_general"):
            kinds = tuple(str(v.aval.dtype) for v in eqn.invars[:2])
            yield eqn.primitive.name, place, kinds, [v.aval.shape for v in eqn.invars]
        for value in jax.tree.leaves(
            list(eqn.params.values()),
            is_leaf=lambda v: isinstance(v, (core.Jaxpr, core.ClosedJaxpr)),
        ):
            if isinstance(value, core.ClosedJaxpr):
                value = value.jaxpr
            if isinstance(value, core.Jaxpr):
                yield from products(value, place)


# Products of float32, of a few values each: classifiers on pooled features, attention
# over the cell states of the past (cell states are float32), a loss, and the statistics
# of GroupNorm, which go from channels to groups and back as products on a CPU.
_STATISTICS = r"/(enc|dec)_\d/conv/norm$"
ALLOWED = {
    "simvp": _STATISTICS,
    "tau": _STATISTICS,
    "simvp_mixed": _STATISTICS,
    "c2d_r50": r"head/projection$",
    "i3d_r50": r"head/projection$",
    "uniformer_s": r"/head$",
    "uniformer_mixed": r"/head$",
    "fusion_toy": r"/head$",
    "densenet121_3d": r"/classifier$",
    "fusion_resnet50": r"/fc$",
    "fusion_mobilenetv2": r"/classifier$",
    "mau": r"cell_list_\d/kbhwc,bhwc->kb$",
    "e3dlstm": r"cell_list_\d/bq(c,blkc->bqlk|lk,blkc->bqc)$",
    "phydnet": r"PhyDNet.finish/ia,jb,...ab->...ij$",
}
# The same classes with other numbers, or with a backbone that is here.
SAME = {"c2d_r101", "i3d_r101", "uniformer_b", "linear_probe", "attentive_probe"}
SAME |= {"fusion_resnext50", "fusion_resnext101"}


def test_all_models_are_here():
    assert FIELDS.keys() | SAME == set(stjax.list_models())


@pytest.mark.parametrize("name", FIELDS)
def test_bfloat16(name):
    model = stjax.create_model(name, dtype=jnp.bfloat16, **FIELDS[name])
    frames = _FRAMES if hasattr(model, "pad_sides") else _CLIP
    x = jax.ShapeDtypeStruct((2, *frames), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(lambda k, x: model.init(k, x), key, x)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}

    def train(variables, x, key):
        more = {"target": x} if getattr(model, "uses_target", False) else {}
        kept = ["batch_stats", "losses"]
        rngs = {"dropout": key}
        return model.apply(variables, x, train=True, rngs=rngs, mutable=kept, **more)

    jaxpr, results = jax.make_jaxpr(train, return_shape=True)(variables, x, key)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(results)} == {"float32"}
    found = list(products(jaxpr.jaxpr))
    single = {place for _, place, kinds, _ in found if "float32" in kinds}
    assert any("bfloat16" in kinds for _, _, kinds, _ in found)
    allowed = ALLOWED.get(name, r"(?!)")
    assert not {place for place in single if not re.search(allowed, place)}
