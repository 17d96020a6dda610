"""`stjax compile` as a user types it; with libtpu, the real compiler of TPUs."""

import importlib.util
import json
import math

import jax
import pytest

from stjax import aot, cli
from stjax.aot import programs, targets
from stjax.aot.text import parse
from stjax.config import load_config
from stjax.errors import UserError

DIGITS = "--config=tau/moving_digits:miniature"


@pytest.fixture
def stjax(capsys, monkeypatch):
    """``stjax(...) -> (exit status, stdout, stderr)``, in this process."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # the command sets it

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(["stjax", "compile", *arguments])
        return end.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def nothing_installed(monkeypatch):
    """As on a machine that can compile for nothing but itself."""
    find = importlib.util.find_spec
    absent = ("libtpu", "jax_cuda12_plugin", "jax_cuda13_plugin")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n in absent else find(n)
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--topology=v5f:2x2"], "unknown chip of --topology 'v5f'; did you mean 'v5"),
        (["--topology=v5e"], "such as v5e:2x4"),
        (["--topology=v5e:0x4"], "such as v5e:2x4"),
        (["--topology=v5e:2x2x2"], "such as v5e:2x4"),
        (["--topology=h100:eight"], "hosts x GPUs a host, such as h100:1x8"),
        (["--topology=v5e:2x2", "--program=trian"], "did you mean 'train'?"),
        (["--topology=v5e:2x2", "--per_device=0"], "at least 1"),
        ([], "--topology is missing"),
    ],
)
def test_bad_input(stjax, flags, words):
    status, out, err = stjax(DIGITS, *flags)
    assert status == 2 and out == "" and err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize(
    ("topology", "words"),
    [("v5e:2x2", f'"jax[tpu]=={jax.__version__}"'), ("h100:1x8", "jax-cuda12-plugin")],
)
def test_without_the_compiler(stjax, nothing_installed, topology, words):
    status, out, err = stjax(DIGITS, f"--topology={topology}")
    assert status == 2 and out == "" and err.count("\n") == 1
    assert "pip install" in err and words in err


REPORT = {
    "config": "c",
    "topology": "v5e:2x4",
    "kind": "train",
    "dtype": "bfloat16",
    "devices": 8,
    "clips": 128,
    "epoch": 10_000,
    "parameters": 10**7,
    "resident": {"parameters": 4 * 10**7, "optimizer": 8 * 10**7, "batch": 10**6},
    "hbm": 16 * 2**30,
    "flops": 1.97e12,
    "temporary": 2**29,
    "peak": 2**30,
    "moved": 8.19e9,
    "accessed": 9e9,
    "collectives": {"all-reduce": (3, 20 * 2**20)},
    "cycles": 30_000_000,
    "layers": {"enc/conv": 20_000_000, "dec/conv (backward)": 10_000_000},
    "unknown_loops": 1,
    "kernels": 3,
    "kernel_cycles": 4_000_000,
    "uncounted": 2,
}
SMALL = [DIGITS, "--program=train"]


@pytest.mark.parametrize(
    ("topology", "fields", "words"),
    [
        (
            "v5e:2x4",
            {},
            [
                "128 clips on 8 devices, 16 on each",
                "FITS: peak 1 GiB of 16 GiB (6%)",
                "3 all-reduce of 20 MiB in all",
                "1,970 GFLOP",
                "roofline (estimate): 10 ms a step, bound by",
                "30,000,000 cycles = 20 ms at 1.5 GHz, without collectives",
                "50% of the peak",
                "4,000,000 of them: 3 calls of hand-written kernels",
                "not in it: 2 of these calls",
                "1 loops of unknown length counted once",
                "66.7%  enc/conv",
            ],
        ),
        (
            "h100:1x8",
            {"cycles": None, "layers": {}, "hbm": 2**30, "unknown_loops": 0},
            [
                "FITS: peak 1 GiB of 1 GiB (100%)",
                "XLA_PYTHON_CLIENT_MEM_FRACTION",
                "bound by memory",
                "clips a second (at best, from the roofline)",
            ],
        ),
        (
            "v5e:2x4",
            {"temporary": None, "peak": 2**35, "problem": "too much of it"},
            [
                "DOES NOT FIT: asks for 32 GiB of 16 GiB (200%)",
                "the compiler says: too much of it",
                "try --config.: dtype=bfloat16, or",
                "as it is, memory would do on: v5p, tpu7x, a100, h100",
            ],
        ),
    ],
)
def test_what_it_says(stjax, monkeypatch, tmp_path, topology, fields, words):
    made_up = aot.Report(**REPORT | fields)
    monkeypatch.setattr(aot, "compile_config", lambda *_: made_up)
    file = tmp_path / "out.json"
    status, out, err = stjax(*SMALL, f"--topology={topology}", f"--output={file}")
    assert status == 0, err
    for word in words:
        assert word in out, out
    assert aot.Report.from_dict(json.loads(file.read_text())["train"]) == made_up


def test_names_of_topologies():
    assert aot.parse_topology("v5e:4x4").name == "v5e:4x4"
    assert aot.parse_topology("h100:8").shape == (8, 1)
    assert aot.parse_topology("v4:2x2").name == "v4:2x2x1"
    # A TPU7x chip is two devices.
    assert aot.parse_topology("tpu7x:2x2x1").size == 8
    assert aot.parse_topology("a100:4x8").size == 32


def test_peaks_follow_from_clocks():
    """Multiply-adds of all MXUs in a cycle, as Google documents them."""
    units = {  # MXUs of a device, and their side
        "v4": (8, 128),
        "v5e": (4, 128),
        "v5p": (8, 128),
        "v6e": (4, 256),
        "tpu7x": (4, 256),
    }
    for name, (count, side) in units.items():
        chip = aot.CHIPS[name]
        assert 2 * count * side**2 * chip.clock == pytest.approx(chip.peak, rel=3e-3)


@pytest.mark.usefixtures("tpu_compiler")
def test_a_tpu_program(stjax, tmp_path):
    flags = ["--config.mesh.data=-1", "--config.dtype=bfloat16", "--per_device=2"]
    file, folder = tmp_path / "report.json", tmp_path / "text"
    status, out, err = stjax(
        DIGITS, *flags, "--topology=v5e:2x2", f"--output={file}", f"--text={folder}"
    )
    assert status == 0, err
    train = json.loads(file.read_text())["train"]
    assert train["devices"] == 4 and train["clips"] == 8
    assert train["resident"]["optimizer"] == 2 * 4 * train["parameters"] + 4
    for words in ("FITS", "estimate", "cycles", "profile by layer", "all-reduce"):
        assert words in out
    # Gradients are summed over devices, kernels' in bfloat16, and little else:
    # statistics of norms, losses.
    _, size = train["collectives"]["all-reduce"]
    assert 2 * train["parameters"] < size < 4 * train["parameters"]
    assert train["collectives"].keys() == {"all-reduce"}
    assert (folder / "train.txt").exists() and (folder / "predict.txt").exists()
    # Predicting needs nobody else.
    predict = json.loads(file.read_text())["predict"]
    assert predict["collectives"] == {} and predict["cycles"] < train["cycles"]


@pytest.mark.usefixtures("tpu_compiler")
def test_depthwise_convolutions_are_the_tpus():
    """A program that is lowered here for a TPU is the TPU's: not shifts and sums."""
    config = load_config("tau/moving_digits:miniature")
    config.mesh.data = -1
    devices = targets.devices(aot.parse_topology("v5e:1x1"))
    text = programs.program(config, "predict", devices).lower().as_text()
    width = config.model.hid_s * config.data.t_in
    assert f"feature_group_count = {width}" in text


@pytest.mark.usefixtures("tpu_compiler")
def test_loops_of_the_tpu_compiler_can_be_read():
    device = targets.devices(aot.parse_topology("v5e:1x1"))[0]
    sharding = jax.sharding.SingleDeviceSharding(device)

    def scanned(w, x):
        return jax.lax.scan(lambda x, w: (jax.numpy.tanh(x @ w), None), x, w)[0]

    shapes = [
        jax.ShapeDtypeStruct(s, "float32", sharding=sharding)
        for s in ((6, 256, 256), (64, 256))
    ]
    program = parse(aot.compiled(jax.jit(scanned).lower(*shapes)).as_text())
    assert program.unknown_loops == 0
    assert max(line.times for line in program.executed()) == 6


@pytest.mark.usefixtures("tpu_compiler")
def test_a_program_that_does_not_fit(stjax):
    """Ten thousand clips of 1024x1024 on one chip."""
    status, out, err = stjax(
        DIGITS,
        "--topology=v5e:1x1",
        "--program=predict",
        "--config.data.size=1024",
        "--config.data.batch=10000",
        "--config.mesh.data=-1",
    )
    assert status == 0, err
    assert "DOES NOT FIT" in out and "data.batch=5000" in out and "GiB" in out


@pytest.mark.usefixtures("tpu_compiler")
def test_no_such_topology():
    with pytest.raises(UserError, match="v5e:3x5"):
        targets.devices(aot.parse_topology("v5e:3x5"))
    sizes = {"v5e:1x1": 1, "v5e:16x16": 256, "v6e:2x4": 8, "v4:2x2x1": 4}
    for name, size in (sizes | {"v5p:2x2x2": 8, "tpu7x:2x2x1": 8}).items():
        topology = aot.parse_topology(name)
        assert len(targets.devices(topology)) == topology.size == size
        assert math.prod(topology.shape) * topology.chip.devices == size
