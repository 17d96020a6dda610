"""Small versions of every model, and what a mesh changes about their training step.

Losses and gradients come from the objectives that training uses, on raw batches that
lie on the mesh as the training loop puts them there.
"""

import dataclasses
import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from stjax import create_model
from stjax.aot import hlo
from stjax.data.base import ClipSpec, LabelSpec, Spec
from stjax.layers.common import grouped_batch_norm
from stjax.losses import create_loss
from stjax.models import resnet3d
from stjax.sharding.mesh import batch_sharding, make_mesh, put_batch, replicated
from stjax.sharding.rules import parameter_shardings
from stjax.tasks import task_of
from stjax.training.state import init_variables, placed

_QUICKLY = {"xla_backend_optimization_level": 0}  # programs run once
BATCH = 8
MESHES = ((8, 1, 1), (2, 4, 1), (2, 1, 4), (2, 2, 2))
BLOCKS = {50: (1, 1, 1, 1), 101: (1, 1, 2, 1)}
"""Residual blocks a stage, in place of 16 and 33: they compile in a minute."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A model that is small enough to be compiled five times.

    Attributes:
      model: its name in the table of models.
      fields: of the model.
      spec: of the clips.
      loss: name of the loss.
      objective: further fields of the objective.
      groups: of the batch, with batch statistics of their own.
    """

    model: str
    fields: dict
    spec: Spec
    loss: str = "mse"
    objective: dict = dataclasses.field(default_factory=dict)
    groups: int = 1


def clips(rows: int, columns: int = 16, frames: int = 2) -> ClipSpec:
    """Clips of grey frames."""
    return ClipSpec(frames, frames, rows, columns)


def labelled(rows: int, columns: int = 32, frames: int = 4, views: int = 1):
    """Labelled clips in colour."""
    return LabelSpec(frames, rows, columns, ("a", "b", "c"), views=views)


_SIMVP = {"hid_s": 4, "hid_t": 8, "n_s": 2, "n_t": 2, "mlp_ratio": 2.0}
_STACK = {"num_hidden": (8, 8), "filter_size": 3, "patch_size": 2}
_RESNET = {"width": 8, "zero_init": False, "dropout": 0.0, "window": 1}
_NL = {"places": ("res3_0", "res4_0")}
_UNIFORMER = {
    "depth": (1, 1, 1, 1),
    "embed_dim": (8, 8, 16, 16),
    "head_dim": 4,
    "drop_path_rate": 0.3,
}
_MIXED = {"mixup": 0.8, "cutmix": 1.0, "erase": 0.25}
_TALL, _LABELS = clips(64), labelled(128)
_PROBED = {"backbone": {"name": "uniformer_s", **_UNIFORMER}}


def _resnet(model: str, **fields) -> Case:
    return Case(model, {**_RESNET, **fields}, _LABELS, "cross_entropy")


def _fusion(model: str, **fields) -> Case:
    fields = {"width": 8, "dropout": 0.0, **fields}
    return Case(model, fields, _LABELS, "cross_entropy")


def _simvp(translator: str, rows: int = 64, **fields) -> Case:
    fields = {**_SIMVP, "translator": translator, **fields}
    return Case("simvp", fields, clips(rows))


CASES = {
    "tau": Case("tau", {**_SIMVP, "drop_path_rate": 0.2}, _TALL),
    "simvp": _simvp("gsta"),
    **{
        f"simvp {name}": _simvp(name)
        for name in ("van", "convmixer", "convnext", "hornet", "moga", "poolformer")
    },
    "simvp incepu": _simvp("incepu", hid_t=16),
    **{
        f"simvp {name}": _simvp(name, rows=32)
        for name in ("mlpmixer", "non_local", "swin", "uniformer", "vit")
    },
    "simvp gsta, 16 rows": _simvp("gsta", rows=32),
    **{
        name: Case(name, _STACK, clips(32))
        for name in ("convlstm", "predrnn", "predrnnpp", "predrnnv2", "mim", "e3dlstm")
    },
    "mau": Case(
        "mau", {"num_hidden": (8, 8), "filter_size": 3, "sr_size": 2}, clips(32)
    ),
    "phydnet": Case("phydnet", {}, clips(64, 8)),
    "swinlstm": Case(
        "swinlstm",
        {
            "embed_dim": 8,
            "depths_downsample": (2,),
            "depths_upsample": (2,),
            "num_heads": (2,),
        },
        clips(32),
    ),
    "swinlstm_b": Case(
        "swinlstm_b", {"embed_dim": 8, "depths": 2, "num_heads": 2}, clips(32)
    ),
    "predformer": Case(
        "predformer",
        {"dim": 16, "heads": 4, "dim_head": 4, "n_depth": 1, "patch_size": 4},
        clips(32),
    ),
    "c2d_r50": _resnet("c2d_r50"),
    "c2d_r101": _resnet("c2d_r101"),
    "i3d_r50": _resnet("i3d_r50"),
    "i3d_r101": _resnet("i3d_r101"),
    "i3d_r50 non-local": _resnet("i3d_r50", **_NL),
    "i3d_r50 non-local, dot product": _resnet("i3d_r50", **_NL, pairwise="dot_product"),
    "i3d_r50 non-local, concatenation": _resnet(
        "i3d_r50", **_NL, pairwise="concatenation"
    ),
    "uniformer_s": Case("uniformer_s", _UNIFORMER, _LABELS, "cross_entropy"),
    "uniformer_b": Case(
        "uniformer_b",
        _UNIFORMER,
        labelled(128, views=2),
        "cross_entropy",
        _MIXED,
    ),
    "densenet121_3d": _fusion("densenet121_3d", growth=8, bn_size=2, blocks=(1,) * 4),
    "fusion_resnet50": _fusion("fusion_resnet50", blocks=(1,) * 4),
    "fusion_mobilenetv2": _fusion(
        "fusion_mobilenetv2",
        stages=((1, 8, 1, 1), (2, 8, 2, 2), (2, 16, 1, 2)),
        last=16,
    ),
    "simvp_mixed": Case("simvp_mixed", _SIMVP, _TALL),
    "uniformer_mixed": Case("uniformer_mixed", _UNIFORMER, _LABELS, "cross_entropy"),
    "linear_probe": Case("linear_probe", _PROBED, _LABELS, "cross_entropy"),
    "attentive_probe": Case(
        "attentive_probe", {**_PROBED, "num_heads": 4}, _LABELS, "cross_entropy"
    ),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """A case made concrete: variables, a raw batch and the function of both."""

    case: Case

    def __post_init__(self):
        case = self.case
        with mock.patch.object(resnet3d, "BLOCKS", BLOCKS):
            model = create_model(case.model, **self._fields())
        objective = task_of(case.spec).Objective(
            model, create_loss(name=case.loss), case.spec, **case.objective
        )
        object.__setattr__(self, "_model", model)
        object.__setattr__(self, "_objective", objective)

    def _fields(self) -> dict:
        if isinstance(self.case.spec, LabelSpec):
            return {**self.case.fields, "num_classes": len(self.case.spec.classes)}
        return self.case.fields

    def shapes(self) -> dict:
        """Of the variables of the model."""
        with mock.patch.object(resnet3d, "BLOCKS", BLOCKS):
            return jax.eval_shape(
                lambda: init_variables(self._model, self.case.spec, 0)
            )

    def variables(self) -> dict:
        """Random ones, none of them zero.

        A block that is born as the identity would hide what its inside does.
        """
        rng = np.random.default_rng(1)

        def value(path, leaf) -> np.ndarray:
            fan_in = math.prod(leaf.shape[:-1])
            noise = rng.normal(size=leaf.shape) / max(fan_in, 100) ** 0.5
            name = path[-1].key
            return np.asarray(noise**2 if name == "var" else noise, leaf.dtype) + (
                name in ("scale", "var")
            )

        return jax.tree_util.tree_map_with_path(value, self.shapes())

    def batch(self) -> dict[str, np.ndarray]:
        """A raw one; the last clip is padding."""
        rng, spec = np.random.default_rng(0), self.case.spec
        arrays = {
            name: rng.integers(0, 256, (BATCH, *shape)).astype(dtype)
            for name, (shape, dtype) in spec.arrays.items()
        }
        if isinstance(spec, LabelSpec):
            classes = rng.integers(0, len(spec.classes), BATCH)
            arrays["target"] = np.eye(len(spec.classes), dtype=np.float32)[classes]
        arrays["weight"] = np.arange(BATCH, 0, -1).clip(0, 1).astype(np.float32)
        arrays["weight"][-1] = 0
        return arrays

    def loss(self, params: dict, rest: dict, batch: dict) -> jax.Array:
        """Of a training step."""
        rng, step = jax.random.key(3), jnp.int32(5)
        with (
            mock.patch.object(resnet3d, "BLOCKS", BLOCKS),
            grouped_batch_norm(self.case.groups),
        ):
            found = self._objective({"params": params, **rest}, batch, step, rng)
        return (found.each * found.weight).sum() / found.weight.sum() + found.extra

    def lowered(self, mesh: jax.sharding.Mesh, smallest: int = 1):
        """``(params, rest, batch) -> (loss, gradient)`` for a mesh."""
        abstract = self.shapes()
        rest = placed(abstract, parameter_shardings(abstract, mesh, smallest))
        params = rest.pop("params")
        batch = {
            name: jax.ShapeDtypeStruct(
                a.shape, a.dtype, sharding=batch_sharding(mesh, a.shape)
            )
            for name, a in self.batch().items()
        }
        out = replicated(mesh), jax.tree.map(lambda p: p.sharding, params)
        with jax.set_mesh(mesh):
            function = jax.jit(jax.value_and_grad(self.loss), out_shardings=out)
            return function.lower(params, rest, batch)

    def compiled(self, mesh: jax.sharding.Mesh, smallest: int = 1):
        """`lowered`, compiled for simulated devices."""
        return self.lowered(mesh, smallest).compile(compiler_options=_QUICKLY)

    def run(
        self, compiled, mesh: jax.sharding.Mesh, variables: dict, smallest: int = 1
    ):
        """Loss and gradient, on the host."""
        rest = jax.device_put(variables, parameter_shardings(variables, mesh, smallest))
        params = rest.pop("params")
        return jax.device_get(compiled(params, rest, put_batch(mesh, self.batch())))


def error(found: tuple, expected: tuple) -> float:
    """The largest deviation of loss and gradient.

    Relative to the largest entry of each array, but no less than a thousandth of the
    largest of all: where a gradient is zero by symmetry, it is rounding errors.
    """
    (loss, grads), (right, expected_grads) = found, expected
    leaves = jax.tree.leaves(expected_grads)
    floor = 1e-3 * max(np.abs(leaf).max() for leaf in leaves)
    worst = abs(loss - right) / abs(right)
    for got, leaf in zip(jax.tree.leaves(grads), leaves, strict=True):
        scale = max(np.abs(leaf).max(), floor)
        worst = max(worst, np.abs(got - leaf).max() / scale)
    return float(worst) if math.isfinite(loss) else math.inf


def measure(case: Case, mesh_sizes=MESHES) -> dict[str, dict]:
    """Mesh -> error against one device, and the collectives of its program."""
    problem = Problem(case)
    variables = problem.variables()
    alone = make_mesh(1, devices=jax.devices()[:1])
    expected = problem.run(problem.compiled(alone), alone, variables)
    found = {}
    for sizes in mesh_sizes:
        mesh = make_mesh(*sizes)
        program = problem.compiled(mesh)
        result = problem.run(program, mesh, variables)
        found["x".join(map(str, sizes))] = {
            "error": error(result, expected),
            "collectives": hlo.collectives(program),
        }
    return found


def rounding(case: Case, draws: int = 3) -> float:
    """The error on one device when every variable moves by a float32 rounding.

    A gradient through ReLU and max-pooling jumps where two values are nearly equal: no
    two programs that add in another order can agree better than this. The largest of
    several draws: each crosses some of the kinks.
    """
    problem = Problem(case)
    variables = problem.variables()
    alone = make_mesh(1, devices=jax.devices()[:1])
    program = problem.compiled(alone)
    rng = np.random.default_rng(0)

    def move(x):
        x = np.asarray(x)
        return (x * (1 + 1e-7 * rng.standard_normal(x.shape))).astype(x.dtype)

    still = problem.run(program, alone, variables)
    return max(
        error(problem.run(program, alone, jax.tree.map(move, variables)), still)
        for _ in range(draws)
    )
