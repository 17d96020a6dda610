"""The table of compiled programs: its rows, what they share, what it prints."""

import json
import re
import sys
from pathlib import Path

import pytest
from etils import epath

from stjax import aot, create_model
from stjax.macs import model_macs

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import compile_rows
import compile_table

RECORDED = Path(__file__).parents[2] / "experiments" / "compile_rows"
V5E = aot.parse_topology("v5e:2x4")


def test_the_first_rows_are_configs():
    names = compile_table.every_config()
    assert tuple(names[: len(compile_table.FIRST)]) == compile_table.FIRST
    assert len(names) == len(set(names))


def test_the_batch_of_a_device_stays_the_same():
    for name, clips in (("tau/moving_mnist", 16), ("nonlocal/kinetics", 8)):
        for text in ("v5e:1x1", "v5e:16x16"):
            topology = aot.parse_topology(text)
            config = compile_table.row_config(name, topology)
            assert config.data.batch == clips * topology.size
            assert config.dtype == "bfloat16"


def test_same_programs_share_a_row(tmp_path):
    names = ["tau/moving_mnist", "tau/moving_fmnist", "tau/kth:20", "tau/own_data"]
    found, left_out = compile_table.rows(names, ["v5e:1x1"], epath.Path(tmp_path))
    assert [row.configs for row in found] == [names[:2], names[2:3]]
    assert left_out == ["tau/own_data"]
    config = compile_table.row_config("tau/moving_mnist", V5E)
    key = compile_table.fingerprint(config)
    config.optim.lr *= 2  # a constant of the same program
    assert compile_table.fingerprint(config) == key
    for field, value in (("remat", "full"), ("mesh.fsdp", 2), ("model.n_t", 4)):
        other = config.copy_and_resolve_references()
        other.update_from_flattened_dict({field: value})
        assert compile_table.fingerprint(other) != key


def test_names_on_the_command_line():
    matches = compile_table.matches
    assert matches("tau/kth:20", "tau/kth") and matches("tau/kth:20", "tau/kth:20")
    assert matches("tau/kth:20", "tau") and not matches("tau/kth:20", "tau/kt")
    assert not matches("tau/moving_mnist_cifar", "tau/moving_mnist")
    assert matches("uniformer/kinetics400:b,32x4", "uniformer/kinetics400:b")
    assert not matches("tau/kth:20", "")


def test_a_row_is_compiled_once(tmp_path, monkeypatch):
    def compile_config(config, topology):
        calls.append(config.name)
        return report()

    calls = []
    monkeypatch.setattr(compile_table.aot, "compile_config", compile_config)
    folder = epath.Path(tmp_path)
    (row,), _ = compile_table.rows(["tau/moving_mnist"], ["v5e:2x4"], folder)
    assert not row.known and row.report is None
    compile_table.compile_row(row)
    (again,), _ = compile_table.rows(["tau/moving_mnist"], ["v5e:2x4"], folder)
    assert again.known["versions"] == compile_table.versions(V5E.chip)
    assert again.report == report() and calls == ["tau/moving_mnist"]


def report(**fields):
    values = {
        "config": "tau/moving_mnist",
        "topology": "v5e:2x4",
        "kind": "train",
        "dtype": "bfloat16",
        "devices": 8,
        "clips": 128,
        "epoch": 10_000,
        "parameters": 10**7,
        "resident": {"parameters": 4 * 10**7},
        "hbm": 16 * 2**30,
        "flops": 1.97e12,
        "moved": 8.19e9,
        "temporary": 2**29,
        "peak": 2**30,
        "collectives": {"all-reduce": (3, 21 * 10**6)},
        "cycles": 30_000_000,
    }
    return aot.Report(**values | fields)


def made_up(values, topology=V5E):
    known = values and values | {"versions": {"jax": "1"}}
    return compile_rows.Row(["tau/a", "tau/b"], topology, None, known)


def test_what_the_table_says():
    small = report(topology="v5e:1x1", devices=1, clips=16, collectives={})
    rows = [
        made_up(small.to_dict(), aot.parse_topology("v5e:1x1")),
        made_up(report().to_dict()),
        made_up({}, aot.parse_topology("v6e:2x4")),
        made_up(
            report(temporary=None, peak=2**35, cycles=None, problem="x").to_dict(),
            aot.parse_topology("v4:2x2x1"),
        ),
    ]
    lines = compile_rows.table(rows, ("tau/a",), ["tau/own"]).splitlines()
    assert "3 of 4 programs are compiled so far (jax 1)." in lines
    full = [line for line in lines if re.match(r"\| `tau/a` \| \w+:", line)]
    # 30 M cycles at 1.5 GHz, and 7/8 of 4 x 21 MB at 400 GB/s.
    assert "| 21 (20) | 0 | 10 (" in full[1] and "| 20.2 | 50% | 792.7 |" in full[1]
    assert "not yet compiled" in full[2]
    assert any("does not fit: 32 GiB (200%)" in line for line in lines)
    assert (
        "| `tau/moving_mnist` | v5e | 1, 8 | 1,970.0, 1,970.0 | 8.19, 8.19"
        " | 0.50, 0.50 | 30, 30 | 0, 21 | yes |" in lines
    )
    # As many cells as columns in every line of a table.
    head = next(line for line in lines if line.startswith("| config | topology"))
    assert {line.count(" | ") for line in full} == {head.count(" | ")}
    short = next(line for line in lines if line.startswith("| `tau/a` `tau/b` | 1 GiB"))
    assert "1 GiB (6%), 20.2 ms | - |" in short
    assert "`tau/own`" in lines[-1]


def test_recorded_work_of_tau():
    """Three predictions of each clip, but for the gradient of the first layer's input.

    Whatever the number of devices.
    """
    found = [json.loads(file.read_text()) for file in RECORDED.glob("*.json")]
    flops = {r["flops"] for r in found if r.get("config") == "tau/moving_mnist"}
    tau = create_model("tau", hid_s=64, hid_t=512, n_s=4, n_t=8)
    predict = model_macs(tau, (10, 64, 64, 1), 10)
    first = 10 * 64 * 64 * 9 * 64
    assert flops == {2 * 16 * (3 * predict - first)}


@pytest.mark.parametrize("file", sorted(RECORDED.glob("*.json")), ids=lambda f: f.stem)
def test_recorded_rows(file):
    """What data parallelism sends: the gradients, most of them in bfloat16."""
    values = json.loads(file.read_text())
    if "error" in values:
        return
    found = aot.Report.from_dict(values)
    assert found.topology.replace(":", "-") == file.stem.partition("_")[0]
    if found.devices > 1 and found.fits:
        _, size = found.collectives["all-reduce"]
        assert 2 * found.parameters < size < 4.1 * found.parameters
