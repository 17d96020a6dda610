"""FSDP gathers parameters where they are used; activations stay where they are."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from stjax.aot import hlo
from stjax.ops.conv import conv_nd
from stjax.sharding.mesh import batch_sharding, make_mesh
from stjax.sharding.rules import parameter_spec


def test_a_recurrent_convolution_gathers_its_kernel_once():
    """Left to itself XLA splits channels in the loop, and gathers the batch."""
    mesh, shape = make_mesh(2, 4), (3, 3, 8, 8)
    spec = parameter_spec(shape, mesh, smallest=1)
    assert spec == P(None, None, None, "fsdp")
    kernel = jax.ShapeDtypeStruct(
        shape, jnp.float32, sharding=NamedSharding(mesh, spec)
    )
    x = (8, 16, 8, 8)
    x = jax.ShapeDtypeStruct(x, jnp.float32, sharding=batch_sharding(mesh, x))

    def roll(kernel, x):
        def step(x, _):
            return jnp.tanh(conv_nd(x, kernel, (1, 1), "SAME")), None

        return lax.scan(step, x, length=3)[0].sum()

    with jax.set_mesh(mesh):
        program = jax.jit(roll).lower(kernel, x).compile()
    gathered = [
        line.instruction.shape.split("{")[0]
        for line in hlo.parse(program.as_text()).executed()
        if line.instruction.opcode.startswith("all-gather")
    ]
    assert set(gathered) == {"f32[3,3,8,8]"}
    assert "all-to-all" not in hlo.collectives(program)
