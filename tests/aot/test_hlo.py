"""Reading optimised programs: loops, collectives, cycles, memory traffic."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from stjax.aot import hlo, layers, text
from stjax.sharding.mesh import batch_sharding, make_mesh, replicated

# Shapes, options and metadata as the TPU compiler writes them.
TPU = """\
HloModule jit_f, is_scheduled=true, num_partitions=4

%fused_computation.1 (p.0: bf16[512,512]) -> bf16[512,512] {
  %p.0 = bf16[512,512]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %c.0 = bf16[512,512]{1,0:T(8,128)(2,1)} copy(%p.0)
}

%body.1 (arg.0: (s32[], bf16[512,512])) -> (s32[], bf16[512,512]) {
  %arg.0 = (s32[]{:T(128)}, bf16[512,512]{1,0:T(8,128)(2,1)}) parameter(0)
  %w.0 = bf16[512,512]{1,0:T(8,128)(2,1)} get-tuple-element(%arg.0), index=1
  %fusion.1 = bf16[512,512]{1,0:T(8,128)(2,1)S(1)} fusion(%w.0), kind=kOutput, \
calls=%fused_computation.1, metadata={op_name="jit(f)/transpose(jvp(Net))/enc_2/fc/dot\
_general" stack_frame_id=3}, backend_config={"flag_configs":[],"window_config":{"esti\
mated_cycles":"5444","iteration_bounds":["1"]}}
  %all-reduce.3 = bf16[512,512]{1,0:T(8,128)(2,1)} all-reduce(%fusion.1), \
channel_id=1, to_apply=%add.1
  %i.0 = s32[]{:T(128)} get-tuple-element(%arg.0), index=0
  ROOT %t.0 = (s32[]{:T(128)}, bf16[512,512]{1,0:T(8,128)(2,1)}) tuple(%i.0, \
%all-reduce.3)
}

%condition.1 (arg.1: (s32[], bf16[512,512])) -> pred[] {
  %arg.1 = (s32[]{:T(128)}, bf16[512,512]{1,0:T(8,128)(2,1)}) parameter(0)
  %n.1 = s32[]{:T(128)} constant(6)
  %i.1 = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  ROOT %lt.1 = pred[]{:T(512)} compare(%i.1, %n.1), direction=LT
}

%add.1 (a.0: f32[], b.0: f32[]) -> f32[] {
  %a.0 = f32[]{:T(128)} parameter(0)
  %b.0 = f32[]{:T(128)} parameter(1)
  ROOT %s.0 = f32[]{:T(128)} add(%a.0, %b.0)
}

ENTRY %main.1 (x.0: bf16[512,512], y.0: f32[64,3]) -> f32[256,3] {
  %x.0 = bf16[512,512]{1,0:T(8,128)(2,1)} parameter(0)
  %y.0 = f32[64,3]{1,0:T(8,128)} parameter(1)
  %zero.1 = s32[]{:T(128)} constant(0)
  %t.1 = (s32[]{:T(128)}, bf16[512,512]{1,0:T(8,128)(2,1)}) tuple(%zero.1, %x.0)
  %while.1 = (s32[]{:T(128)}, bf16[512,512]{1,0:T(8,128)(2,1)}) while(%t.1), \
condition=%condition.1, body=%body.1
  %ar.1 = (f32[64,3]{1,0}, f32[]{:T(128)}) all-reduce(%y.0, %zero.2), to_apply=%add.1
  %zero.2 = f32[]{:T(128)} constant(0)
  %ags.1 = (f32[64,3]{1,0}, f32[256,3]{1,0}) all-gather-start(%y.0), dimensions={0}
  %cps.1 = (f32[64,3]{1,0}, f32[64,3]{1,0}, u32[], u32[]) \
collective-permute-start(%y.0), source_target_pairs={{0,1},{1,0}}
  %cpd.1 = f32[64,3]{1,0} collective-permute-done(%cps.1)
  %kernel.1 = f32[64,3]{1,0} custom-call(%y.0), custom_call_target="tpu_custom_call", \
frontend_attributes={kernel_metadata={
"block_q": {"256": 1},
}}, metadata={op_name="jit(f)/transpose(jvp(Net))/attn_1/kernel/pallas_call"}
  %mul.1 = f32[64,3]{1,0} multiply(%y.0, %cpd.1), metadata={op_name="jit(f)/mul"}, \
backend_config={"window_config":{"estimated_cycles":"100"}}
  ROOT %agd.1 = f32[256,3]{1,0} all-gather-done(%ags.1)
}
"""


def test_loop_bodies_count_as_often_as_they_run():
    program = text.parse(TPU)
    assert program.entry == "main.1" and program.unknown_loops == 0
    assert layers.profile(program) == {
        "enc/fc (backward)": 6 * 5444,
        "optimizer, loss and the rest": 100,
    }


def test_notes_of_several_lines():
    program = text.parse(TPU)
    assert hlo.kernels(program) == {"kernel.1": 1}
    assert hlo.moved_by(program, {"kernel.1"}) == {"kernel.1": 2 * 4 * 64 * 3}
    assert list(hlo.same_kernels(program, {"kernel.1", "mul.1"})) == [
        "kernel.1",
        "mul.1",
    ]
    cycles = layers.profile(program, {"kernel.1": 70})
    assert cycles["attn/kernel (backward)"] == 70


def test_loops_of_unknown_length_count_once():
    unknown = TPU.replace("constant(6)", "parameter(1)")
    program = text.parse(unknown)
    assert program.unknown_loops == 1
    assert layers.profile(program)["enc/fc (backward)"] == 5444


def test_collectives():
    matrix, rows = 2 * 512 * 512, 4 * 64 * 3
    assert hlo.collectives(TPU) == {
        "all-reduce": (6 + 1, 6 * matrix + rows + 4),
        "all-gather": (1, 4 * rows),
        "collective-permute": (1, rows),
    }


def test_memory_traffic_leaves_vector_memory_out():
    matrix, rows = 2 * 512 * 512, 4 * 64 * 3
    # A turn of the loop reads and writes one matrix each; the other lies in S(1).
    loop = 6 * (matrix + matrix + (4 + 4 + 1))  # and compares its counter
    reduced = 2 * (rows + 4)
    gathered = rows + (rows + 4 * rows)
    permuted = rows + (rows + rows + 8)
    assert hlo.moved(text.parse(TPU)) == loop + reduced + gathered + permuted + 5 * rows


STACKED = """\
HloModule jit_g

%slices.1 (p.0: f32[6,8,8], p.1: s32[]) -> f32[8,8] {
  %p.0 = f32[6,8,8]{2,1,0} parameter(0)
  %p.1 = s32[] parameter(1)
  %s.0 = f32[1,8,8]{2,1,0} dynamic-slice(%p.0, %p.1), dynamic_slice_sizes={1,8,8}
  ROOT %b.0 = f32[8,8]{1,0} bitcast(%s.0)
}

%updates.1 (p.2: f32[6,8,8], p.3: f32[1,8,8], p.4: s32[]) -> f32[6,8,8] {
  %p.2 = f32[6,8,8]{2,1,0} parameter(0)
  %p.3 = f32[1,8,8]{2,1,0} parameter(1)
  %p.4 = s32[] parameter(2)
  ROOT %u.0 = f32[6,8,8]{2,1,0} dynamic-update-slice(%p.2, %p.3, %p.4)
}

ENTRY %main.2 (w.0: f32[6,8,8], i.0: s32[], x.0: f32[1,8,8]) -> f32[6,8,8] {
  %w.0 = f32[6,8,8]{2,1,0} parameter(0)
  %i.0 = s32[] parameter(1)
  %x.0 = f32[1,8,8]{2,1,0} parameter(2)
  %one.0 = f32[8,8]{1,0} fusion(%w.0, %i.0), kind=kLoop, calls=%slices.1
  ROOT %all.0 = f32[6,8,8]{2,1,0} fusion(%w.0, %x.0, %i.0), kind=kLoop, \
calls=%updates.1
}
"""


def test_slices_of_stacked_arrays_are_not_the_whole():
    layer, index = 4 * 64, 4
    # Reads a layer and writes it; then reads one and writes it into the stack.
    assert hlo.moved(text.parse(STACKED)) == 2 * (2 * layer + index)


def test_scratch_memory_of_libraries_is_not_moved():
    text_of = (
        STACKED.partition("ENTRY")[0]
        + """\
ENTRY %main.3 (x.1: bf16[4,8], w.1: bf16[8,8]) -> bf16[4,8] {
  %x.1 = bf16[4,8]{1,0} parameter(0)
  %w.1 = bf16[8,8]{1,0} parameter(1)
  %call.1 = (bf16[4,8]{1,0}, u8[1000000]{0}) custom-call(%x.1, %w.1), \
custom_call_target="__cudnn$convForward"
  ROOT %y.1 = bf16[4,8]{1,0} get-tuple-element(%call.1), index=0
}
"""
    )
    assert hlo.moved(text.parse(text_of)) == 2 * (32 + 64 + 32)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[]", 4),
        ("bf16[3,5]{1,0:T(8,128)(2,1)S(1)}", 30),
        ("(s32[2]{0}, pred[7], /*index=2*/u8[3], token[])", 8 + 7 + 3),
        ("s4[5]{0}", 3),
        ("c64[2]", 16),
        ("f8e4m3fn[10]", 10),
    ],
)
def test_bytes_of_a_shape(shape, size):
    assert text.shape_bytes(shape) == size


def test_a_program_of_this_machine():
    """Gradients of scanned layers under data parallelism: one all-reduce each."""
    mesh = make_mesh(data=4)

    def loss(w, x):
        def layer(x, w):
            return jnp.tanh(x @ w), None

        return (lax.scan(layer, x, w)[0] ** 2).mean()

    w = jax.ShapeDtypeStruct((6, 16, 16), jnp.float32, sharding=replicated(mesh))
    sharding = batch_sharding(mesh, (8, 16))
    x = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=sharding)
    step = jax.jit(jax.value_and_grad(loss), out_shardings=replicated(mesh))
    found = hlo.collectives(step.lower(w, x).compile())
    assert found.keys() == {"all-reduce"}
    # All gradients, in or after the loop, and the loss.
    assert found["all-reduce"][1] == 4 * (6 * 16 * 16 + 1)


@pytest.mark.parametrize(
    ("op_name", "layer"),
    [
        (
            "jit(__call__)/jvp(SimVP)/SimVP._call/hid/enc_3/block/attn/conv0/conv",
            "hid/enc/block/attn",
        ),
        (
            "jit(__call__)/transpose(jvp(SimVP))/SimVP._call/dec/readout/cond/"
            "branch_0_fun/transpose(jvp())/conv",
            "dec/readout (backward)",
        ),
        ("jit(__call__)/jvp(Net)/while/body/closed_call/blocks/dot", "blocks"),
        ("jit(_forward)/SimVP/SimVP._call/hid/enc_0/add", "hid/enc"),
        ("jit(_forward)/SimVP/add", "the model itself"),
        ("jit(__call__)/mul", "optimizer, loss and the rest"),
        ("", "optimizer, loss and the rest"),
    ],
)
def test_layers(op_name, layer):
    assert layers.layer_of(op_name) == layer
