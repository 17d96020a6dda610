"""When several processes are joined, and what a user is told where they cannot be."""

import subprocess
import sys

import pytest

from stjax import distributed
from stjax.cli import main
from stjax.errors import UserError

VARIABLES = (
    "STJAX_DISTRIBUTED",
    "SLURM_STEP_NODELIST",
    "SLURM_NTASKS",
    "OMPI_COMM_WORLD_SIZE",
    "KUBERNETES_SERVICE_HOST",
    "JOB_COMPLETION_INDEX",
    "MEGASCALE_NUM_SLICES",
    "TPU_PROCESS_ADDRESSES",
    "TPU_WORKER_HOSTNAMES",
    "TPU_SKIP_MDS_QUERY",
    "JAX_PLATFORMS",
)


@pytest.fixture
def bare(monkeypatch):
    """One host, and a record of how JAX is called instead of a start."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(distributed, "_tpu_here", lambda: False)
    calls = []

    def initialize(*arguments, **keywords):
        calls.append((arguments, keywords))

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    return calls


SURROUNDINGS = {
    "Slurm tasks": {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "2"},
    "Open MPI ranks": {"OMPI_COMM_WORLD_SIZE": "4"},
    "pods of a Kubernetes job": {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "JOB_COMPLETION_INDEX": "0",
    },
    "Cloud TPU workers": {"TPU_WORKER_HOSTNAMES": "w-0,w-1"},
}
ALONE = [
    {},
    {"SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "1"},
    {"SLURM_NTASKS": "8"},  # sbatch without srun: one process
    {"OMPI_COMM_WORLD_SIZE": "1"},
    {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},  # a notebook's pod
    {"TPU_WORKER_HOSTNAMES": "localhost"},
    {
        "TPU_WORKER_HOSTNAMES": "localhost",
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "JOB_COMPLETION_INDEX": "0",
    },
    {"TPU_WORKER_HOSTNAMES": "w-0,w-1", "JAX_PLATFORMS": "cpu"},
]


@pytest.mark.parametrize("where", SURROUNDINGS)
def test_surroundings_start_it(bare, monkeypatch, where):
    for name, value in SURROUNDINGS[where].items():
        monkeypatch.setenv(name, value)
    assert distributed.surroundings() == where
    distributed.join()
    ((arguments, keywords),) = bare
    assert arguments == () and keywords.keys() == {"initialization_timeout"}
    monkeypatch.setenv("STJAX_DISTRIBUTED", "0")
    assert distributed.join() is False and len(bare) == 1


@pytest.mark.parametrize("variables", ALONE)
def test_one_host_starts_nothing(bare, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert distributed.join() is False and not bare


def test_several_slices_and_the_metadata_of_a_tpu_vm(bare, monkeypatch):
    monkeypatch.setenv("MEGASCALE_NUM_SLICES", "2")
    assert distributed.surroundings() == "Cloud TPU workers"
    monkeypatch.delenv("MEGASCALE_NUM_SLICES")
    monkeypatch.setattr(distributed, "_tpu_here", lambda: True)

    class Answer:
        def __init__(self, text):
            self.text = text

        def __enter__(self):
            return self

        def __exit__(self, *unused):
            pass

        def read(self):
            return self.text

    asked = []

    def urlopen(request, timeout):
        asked.append(request)
        return Answer(texts.pop())

    texts = [b"w-0,w-1,w-2,w-3", b"10.0.0.2"]
    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    assert distributed.surroundings() == ""
    assert distributed.surroundings() == "Cloud TPU workers"
    assert asked[0].headers == {"Metadata-flavor": "Google"}


def test_asked_for_and_forbidden(bare, monkeypatch):
    monkeypatch.setenv("STJAX_DISTRIBUTED", "1")
    distributed.join()
    assert len(bare) == 1
    distributed.join("localhost:1234", 2, 1)
    assert bare[1][0] == ("localhost:1234", 2, 1)
    monkeypatch.setenv("STJAX_DISTRIBUTED", "0")
    with pytest.raises(UserError, match="STJAX_DISTRIBUTED=0 forbids"):
        distributed.join("localhost:1234", 2, 1)
    monkeypatch.setenv("STJAX_DISTRIBUTED", "yes")
    with pytest.raises(UserError, match="STJAX_DISTRIBUTED=yes: expected 0 or 1"):
        distributed.join()


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--process=0"], "--coordinator and --processes missing"),
        (["--coordinator=a:1", "--process=0"], "--processes missing"),
        (["--coordinator=a:1", "--processes=2", "--process=2"], "expected 0 to 1"),
        (["--coordinator=a:1", "--processes=2", "--process=-1"], "expected 0 to 1"),
        (["--coordinator=a", "--processes=2", "--process=0"], "expected HOST:PORT"),
        (["--coordinator=a:99999", "--processes=2", "--process=0"], "HOST:PORT"),
    ],
)
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_wrong_flags_are_told_in_a_line(bare, tmp_path, capsys, command, flags, text):
    if command == "train":
        flags = ["--config=tau/moving_digits:miniature", *flags]
    with pytest.raises(SystemExit) as end:
        main(["stjax", command, f"--workdir={tmp_path}/run", *flags])
    said = capsys.readouterr().err
    assert end.value.code == 2 and text in said and said.count("\n") == 1
    assert not bare and not (tmp_path / "run").exists()


def test_jax_finds_no_others(bare, monkeypatch):
    def initialize(**unused):
        raise ValueError("coordinator_address\nshould be defined.")

    monkeypatch.setenv("STJAX_DISTRIBUTED", "1")
    monkeypatch.setattr("jax.distributed.initialize", initialize)
    text = "cannot join the others: coordinator_address should be defined.; give --coo"
    with pytest.raises(UserError, match=text):
        distributed.join()


def test_nobody_at_the_coordinators_address():
    code = (
        "from stjax import distributed;"
        " distributed.join('localhost:9', 2, 1, timeout=2)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 75  # EX_TEMPFAIL: starting again may help
    assert done.stderr.splitlines()[-1] == (
        "stjax: process 1 of 2 (coordinator localhost:9) waited 2 s for the others in"
        " vain; start all of them, and check that they reach the coordinator's address"
        " and port"
    )
