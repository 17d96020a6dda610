"""More devices, the same work for each: of the recorded rows of compiled programs."""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import pytest

from stjax import aot
from stjax.aot.specs import spec_of
from stjax.config import load_config
from stjax.training.state import build_model, init_variables

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

compile_scaling = pytest.importorskip("compile_scaling", reason="no experiments/ here")

VALUES = [json.loads(f.read_text()) for f in EXPERIMENTS.glob("compile_rows/*.json")]
REPORTS = [aot.Report.from_dict(v) for v in VALUES if "parameters" in v]
GROUPS = compile_scaling.groups(REPORTS)

# Mixup pairs a clip with one at the other end of the batch: of another device.
KNOWN = {"uniformer/kinetics400:b,32x4 v5e": ["collective-permute on 8 devices"]}


@pytest.mark.parametrize("name", [" ".join(key) for key in GROUPS])
def test_recorded_work_of_a_device_is_constant(name):
    config, chip = name.split()
    rows = GROUPS[config, chip]
    assert [r.clips / r.devices for r in rows] == [rows[0].clips / rows[0].devices] * (
        len(rows)
    )
    assert compile_scaling.departures(rows) == KNOWN.get(name, [])


def test_what_grows_is_said():
    rows = GROUPS["tau/moving_mnist", "v5e"]
    assert [r.devices for r in rows] == [1, 8, 256]
    last = rows[-1]
    gathers = last.collectives | {"all-gather": (1, 100)}
    more = {"all-reduce": (66, 2 * last.collectives["all-reduce"][1])}
    for changed, text in (
        ({"flops": 2 * last.flops}, "2.000 times the arithmetic on 256 devices"),
        ({"moved": 2 * rows[0].moved}, "2.00 times the bytes moved"),
        ({"temporary": 2 * rows[0].temporary}, "2.00 times the memory"),
        ({"cycles": 2 * rows[0].cycles}, "2.00 times the cycles"),
        ({"collectives": gathers}, "all-gather on 256 devices"),
        ({"collectives": more}, "all-reduces of {8: 89483018, 256: 178966036} bytes"),
    ):
        wrong = [*rows[:-1], dataclasses.replace(last, **changed)]
        (found,) = compile_scaling.departures(wrong)
        assert text in found


@pytest.mark.parametrize("name", ["tau/moving_mnist", "tau/kth:20"])
def test_tau_sends_gradients_and_statistics(name):
    """To the byte, on any chip.

    Gradients: bfloat16 as the computation, float32 those of norms. KTH's model is
    called twice, for 20 frames from 10: the gradients of its calls are added in
    float32 and then sent, but for the layer scales', which are sent for each call.
    Batch norm sends four float32 sums of each channel: forward of x and x^2, backward
    of the two that are the gradients of bias and scale, and those for each call.
    """
    config = load_config(name)
    spec = spec_of(config)
    model = build_model(config, spec)
    shapes = jax.eval_shape(lambda: init_variables(model, spec, 0))
    leaves = jax.tree_util.tree_leaves_with_path(shapes["params"])

    def count(*names):
        return sum(p.size for path, p in leaves if str(path[-1].key).startswith(names))

    norms, scales = count("scale") * 2, count("layer_scale")
    channels = sum(p.size for p in jax.tree.leaves(shapes["batch_stats"])) // 2
    every, loss = sum(p.size for _, p in leaves), 8  # bytes: the sum and the weight
    if name == "tau/moving_mnist":
        expected = 2 * every + 2 * norms + 16 * channels + loss
    else:
        expected = 4 * (every + scales) + 2 * 16 * channels + loss
    found = {
        r.collectives["all-reduce"][1]
        for r in REPORTS
        if r.config == name and r.devices > 1
    }
    assert found == {expected}
