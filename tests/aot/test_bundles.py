"""Instructions of hand-written TPU kernels, as often as they run."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from stjax import aot
from stjax.aot import bundles, hlo, targets
from stjax.aot.layers import profile
from stjax.aot.text import parse
from stjax.ops.conv import conv_nd

# As the TPU compiler writes it: a grid of 4 steps, whose pipeline turns twice more, and
# in it a loop of 3; four bundles after a branch still run.
KERNEL = """\
= control target key start
LB: loop body
= control target key end

     0   :  { %s1_s1 = smov 0 }
   0x1 LB: > { %s2_s2 = sadd.s32 1, %s3_s3 /* iteration index, stage = 1 */ }
   0x2   : > { %4 = sbr.rel (!%p5_p5) target = $region20 }
   0x3   : > { %v6_v6 = vld [vmem:[%s7]
 sm:$0xff] }
   0x4   :  {} /* Start region 20 :: End region 20 */
   0x5 LB: >> { %s8_s8 = sphi %s9, %s10 }
   0x6   : >> { %p11_p1 = scmp.ge.s32.totalorder (%p5_p5), %s10_s4, 3 /* loop exit */ }
   0x7   : >> { %12 = sbr.rel (!%p11_p1) target = $region21 }
   0x8   :  {}
   0x9   :  {}
   0xa   :  {}
   0xb   : >> { %v13 = vadd.f32 %v6_v6, %v6_v6 } /* End region 21 */
   0xc   : > { %p14_p2 = scmp.ge.s32.totalorder %s2_s2, 6 /* loop exit test */ }
   0xd   :  { %15 = sbr.rel (!%p14_p2) target = $region22 }
   0xe   :  {}
   0xf   :  {}
  0x10   :  {}
  0x11   :  {} /* End region 22 */
  0x12   :  { %16 = vsyncpa [#allocation3], 1 }
"""


def test_loops_count_as_often_as_they_turn():
    inner, step = 7, 4 + 6
    assert bundles.count_bundles(KERNEL) == 2 + 4 * (step + 3 * inner)
    unknown = KERNEL.replace("%s10_s4, 3", "%s10_s4, %s17_s5")
    assert bundles.count_bundles(unknown) is None


def test_kernels_are_found_by_name(tmp_path):
    (tmp_path / "17-conv.1-68-final_bundles.txt").write_text(KERNEL)
    (tmp_path / "17-conv.1-67-schedule-analysis_final_bundles.txt").write_text("")
    (tmp_path / "18-other-68-final_bundles.txt").write_text(KERNEL)
    assert bundles.kernel_bundles(tmp_path, {"conv.1", "conv.2"}) == {"conv.1": 126}
    bundles.clear(tmp_path)
    assert bundles.kernel_bundles(tmp_path, {"conv.1"}) == {}


@pytest.mark.usefixtures("tpu_compiler")
@pytest.mark.parametrize(
    ("shape", "window", "dilation"),
    [((4, 8, 8, 64), (5, 5), (2, 2)), ((1, 3, 8, 8, 128), (3, 3, 3), (1, 1, 1))],
)
def test_depthwise_kernels_compile_and_count(shape, window, dilation):
    """Mosaic takes them, and their bundles are those of their arithmetic."""
    device = targets.devices(aot.parse_topology("v5e:1x1"))[0]
    sharding = jax.sharding.SingleDeviceSharding(device)
    c, taps = shape[-1], math.prod(window)
    padding = tuple((d * (k // 2),) * 2 for k, d in zip(window, dilation, strict=True))
    convolve = partial(
        conv_nd,
        window_strides=(1,) * len(window),
        padding=padding,
        rhs_dilation=dilation,
        feature_group_count=c,
    )

    @jax.jit
    def both(x, w, dy):
        y, pull = jax.vjp(convolve, x, w)
        return y, *pull(dy)

    shapes = [
        jax.ShapeDtypeStruct(s, jnp.bfloat16, sharding=sharding)
        for s in (shape, (*window, 1, c), shape)
    ]
    bundles.clear(bundles.dump_folder())
    program = parse(aot.compiled(both.lower(*shapes)).as_text())
    calls = hlo.kernels(program)
    assert sum(calls.values()) == 3
    counted = bundles.kernel_bundles(bundles.dump_folder(), calls)
    same = hlo.same_kernels(program, calls)  # compiled once, for one of them
    assert {same[name] for name in counted} == set(same.values())
    # A multiplication and an addition a tap, of at most four in a bundle; taps in the
    # padding are left out: at least a quarter are not.
    registers = jnp.prod(jnp.array(shape)) / (8 * 128)
    for count in counted.values():
        assert taps * registers * 2 / 4 / 4 < count < taps * registers * 40
    assert sum(profile(program, counted).values()) >= sum(counted.values())
