"""Commands for Cloud TPU: word by word, and as the page shows them."""

import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from experiments.launch import __main__ as command
from experiments.launch import accelerators, gcloud, xpk
from experiments.launch.jobs import Job, load_job
from stjax.errors import UserError

ROOT = Path(__file__).parents[2]
FIELDS = {
    "name": "run-1",
    "project": "my-project",
    "zone": "europe-west4-b",
    "accelerator": "v6e-8",
    "bucket": "gs://my-bucket",
    "source": "git+https://example.com/me/stjax@main",
    "config": "tau/moving_mnist",
}
ACCOUNT = "stjax-jobs@my-project.iam.gserviceaccount.com"
HERE = ["--project=my-project", "--zone=europe-west4-b"]
TRAIN = "stjax train --config=tau/moving_mnist --workdir=gs://my-bucket/run-1"


def job(**fields):
    return Job(**(FIELDS | fields))


def test_setup():
    services = [f"{n}.googleapis.com" for n in ("compute", "tpu", "storage", "iam")]
    project = "--project=my-project"
    assert gcloud.setup(job()) == [
        ["gcloud", "services", "enable", *services, project],
        [
            *["gcloud", "storage", "buckets", "create", "gs://my-bucket", project],
            *["--location=europe-west4", "--uniform-bucket-level-access"],
        ],
        ["gcloud", "iam", "service-accounts", "create", "stjax-jobs", project],
        [
            *["gcloud", "storage", "buckets", "add-iam-policy-binding"],
            *["gs://my-bucket", f"--member=serviceAccount:{ACCOUNT}"],
            "--role=roles/storage.admin",
        ],
    ]


@pytest.mark.parametrize("spot", [False, True])
def test_queued_resource(spot):
    queued = ["gcloud", "compute", "tpus", "queued-resources"]
    expected = [
        *[*queued, "create", "run-1", *HERE],
        "--node-id=run-1",
        "--accelerator-type=v6e-8",
        "--runtime-version=v2-alpha-tpuv6e",
        f"--service-account={ACCOUNT}",
        "--scopes=https://www.googleapis.com/auth/cloud-platform",
    ]
    assert gcloud.create(job(spot=spot)) == [expected + ["--spot"] * spot]
    form = "--format=value(state.state)"
    assert gcloud.status(job()) == [[*queued, "describe", "run-1", *HERE, form]]
    assert gcloud.delete(job()) == [[*queued, "delete", "run-1", *HERE, "--force"]]


def test_run_on_tpu_vms():
    ssh = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "run-1", *HERE]
    install, start = gcloud.run(job(overrides={"data": {"size": [64, 64]}}))
    assert install[:-1] == start[:-1] == [*ssh, "--worker=all"]
    assert install[-1] == (
        "--command=python3 -m pip install --quiet --user --upgrade uv"
        " && python3 -m uv venv --quiet --clear --python=3.12 $HOME/stjax-venv"
        " && python3 -m uv pip install --quiet --python=$HOME/stjax-venv/bin/python"
        " 'stjax[tpu,gcs] @ git+https://example.com/me/stjax@main'"
    )
    assert start[-1] == (
        "--command=sudo systemd-run --unit=run-1 --collect --uid=$(id -u)"
        " --working-directory=$HOME"
        " --setenv=JAX_COMPILATION_CACHE_DIR=gs://my-bucket/compile_cache"
        " --property=Restart=on-failure --property=RestartSec=10"
        " --property=RestartPreventExitStatus=2 --property=TimeoutStopSec=600"
        " $HOME/stjax-venv/bin/stjax train --config=tau/moving_mnist"
        " --config.data.size=64,64 --workdir=gs://my-bucket/run-1"
    )
    assert gcloud.stop(job()) == [
        [*ssh, "--worker=all", "--command=sudo systemctl stop run-1"]
    ]
    follow = "sudo journalctl --unit=run-1 --lines=50 --no-pager --follow"
    assert gcloud.logs(job()) == [[*ssh, "--worker=0", f"--command={follow}"]]
    where = "gs://my-bucket/run-1"
    assert (
        gcloud.fetch(job())
        == xpk.fetch(job(cluster="c"))
        == [
            ["gcloud", "storage", "cp", f"{where}/results.json", "run-1.json"],
            ["gcloud", "storage", "cp", f"{where}/pictures/test.png", "run-1.png"],
        ]
    )


def test_gke():
    todo = job(cluster="tpus", accelerator="tpu7x-16", max_restarts=7)
    where = ["--cluster=tpus", *HERE]
    assert xpk.create(todo) == [
        [
            *["xpk", "cluster", "create", *where],
            *["--tpu-type=tpu7x-16", "--num-slices=1"],
            f"--custom-nodepool-arguments=--service-account={ACCOUNT}",
            "--on-demand",
        ]
    ]
    install = "pip install --quiet 'stjax[tpu,gcs] @ " + FIELDS["source"] + "'"
    assert xpk.run(todo) == [
        [
            *["xpk", "workload", "create", *where, "--workload=run-1"],
            *["--tpu-type=tpu7x-16", "--num-slices=1", "--docker-image=python:3.12"],
            "--max-restarts=7",
            "--env=JAX_COMPILATION_CACHE_DIR=gs://my-bucket/compile_cache",
            f"--command={install} && exec {TRAIN}",
        ]
    ]
    workload, cluster = ["xpk", "workload"], ["xpk", "cluster"]
    assert xpk.status(todo) == [[*workload, "list", *where, "--filter-by-job=run-1"]]
    assert xpk.stop(todo) == [[*workload, "delete", *where, "--workload=run-1"]]
    assert xpk.delete(todo) == [[*cluster, "delete", *where]]
    (logs,) = xpk.logs(todo)
    assert logs[:3] == ["gcloud", "logging", "read"]
    assert 'pod_name:"run-1-slice-job-0-0-"' in logs[3]
    assert gcloud.setup(todo)[-1] == [
        *["gcloud", "projects", "add-iam-policy-binding", "my-project"],
        f"--member=serviceAccount:{ACCOUNT}",
        "--role=roles/container.defaultNodeServiceAccount",
    ]


def test_runtime_versions():
    """Google's table at cloud.google.com/tpu/docs/runtimes."""
    published = {
        "v6e-256": "v2-alpha-tpuv6e",
        "v5p-8": "v2-alpha-tpuv5",
        "v5p-384": "v2-alpha-tpuv5",
        "v5litepod-16": "v2-alpha-tpuv5-lite",
        "v4-32": "tpu-ubuntu2204-base",
    }
    for name, version in published.items():
        assert accelerators.runtime_version(name) == version


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accelerator": "v5e-16"}, "unknown accelerator 'v5e-16'; did you mean 'v"),
        ({"accelerator": "v6e-12"}, "unknown accelerator 'v6e-12'; did you mean 'v6e-"),
        ({"accelerator": "v5litepod-15"}, "did you mean 'v5litepod-1"),
        ({"accelerator": "v5p-392"}, "unknown accelerator 'v5p-392'"),
        ({"accelerator": "tpu7x-8"}, "tpu7x-8 is only offered on GKE: set `cluster`"),
        ({"zone": ""}, "job field zone = '': expected a zone such as us-west4-a"),
        ({"zone": "us-west4"}, "job field zone = 'us-west4': expected a zone"),
        ({"bucket": "my-bucket"}, "job field bucket = 'my-bucket': expected the addr"),
        ({"bucket": "gs://My"}, "job field bucket"),
        ({"name": "My_run"}, "job field name = 'My_run': expected at most 40"),
        ({"name": "run-"}, "job field name = 'run-'"),
        ({"name": "r" * 41}, "job field name"),
        ({"cluster": "My"}, "job field cluster = 'My'"),
        ({"source": "me/stjax; rm"}, "expected what pip can install"),
        ({"spot": "yes"}, "job field spot = 'yes': expected bool"),
        ({"max_restarts": 1.5}, "job field max_restarts = 1.5: expected int"),
    ],
)
def test_errors_of_fields(fields, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        job(**fields)
    assert "\n" not in str(error.value)


def write(folder, **fields):
    lines = [f"{k} = {v!r}" for k, v in (FIELDS | fields).items() if v is not None]
    file = folder / "job.toml"
    file.write_text("\n".join(lines) + "\n[overrides]\ntrain.steps = 5\n")
    return f"--job={file}"


@pytest.mark.parametrize(
    ("words", "fields", "message"),
    [
        (["create"], {"zone": None}, "job.toml has no field zone: a zone such as us-"),
        (["create"], {"zones": "x"}, "unknown job field 'zones'; did you mean 'zone'?"),
        (["crate"], {}, "unknown action 'crate'; did you mean 'create'?"),
        ([], {}, "give one of the actions setup, create"),
        (["run"], {"config": "tau/movin_mnist"}, "did you mean 'tau/moving_mnist'?"),
        (["create", "--jobs=x"], {}, "unknown flag '--jobs'; did you mean '--job'?"),
    ],
)
def test_errors_of_the_command(tmp_path, capsys, words, fields, message):
    flags = [write(tmp_path, **fields), "--dry_run"]
    assert command.main([*words, *flags] if words else flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("launch: ") and message in error and error.count("\n") == 1


def test_files_of_jobs(tmp_path):
    flag = write(tmp_path, spot=None).removeprefix("--job=")
    assert load_job(flag) == job(overrides={"train": {"steps": 5}})
    assert load_job(flag).flags[1] == "--config.train.steps=5"
    Path(flag).write_text("name = ")
    with pytest.raises(UserError, match="is not TOML"):
        load_job(flag)
    with pytest.raises(UserError, match="there is no such file"):
        load_job("none.toml")


def test_what_is_not_installed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command.shutil, "which", lambda name: None)
    for fields, missing in (({}, "gcloud"), ({"cluster": "c"}, "xpk")):
        assert command.main(["create", write(tmp_path, **fields)]) == 2
        assert capsys.readouterr().err.startswith(f"launch: {missing} is not installed")


def test_commands_run_until_one_fails(tmp_path, monkeypatch):
    done = []

    def call(words):
        done.append(words)
        return types.SimpleNamespace(returncode=0 if len(done) < 2 else 7)

    monkeypatch.setattr(command.subprocess, "run", call)
    monkeypatch.setattr(command.shutil, "which", lambda name: f"/bin/{name}")
    assert command.main(["setup", write(tmp_path)]) == 7
    assert done == gcloud.setup(job())[:2]


def test_dry_run_is_what_a_shell_reads(tmp_path, capsys):
    flags = [write(tmp_path), "--dry_run"]
    for action in command.ACTIONS:
        assert command.main([action, *flags]) == 0
        printed = shlex.split(capsys.readouterr().out.replace("\\\n", " "))
        todo = job(overrides={"train": {"steps": 5}})
        commands = getattr(gcloud, action)(todo)
        assert printed == [word for words in commands for word in words]


def test_commands_for_the_machines_are_shell():
    for commands in (gcloud.run(job()), xpk.run(job(cluster="c"))):
        for words in commands:
            line = words[-1].removeprefix("--command=")
            subprocess.run(["bash", "-n", "-c", line], check=True)


def test_the_page_shows_what_is_run(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs/cloud_tpu.md").read_text()
    blocks = re.findall(r"```console\n(.*?)```", page, re.S)
    shown = [s for b in blocks for s in re.split(r"^\$ ", b, flags=re.M)[1:]]
    mine = [s for s in shown if s.startswith("python -m experiments.launch")]
    actions = set()
    for text in mine:
        line, _, output = text.partition("\n")
        words = shlex.split(line)[3:]
        assert command.main(words) == 0
        assert capsys.readouterr().out.strip() == output.strip()
        actions.add(words[0])
    assert actions == set(command.ACTIONS)
    for name, generation in accelerators.GENERATIONS.items():
        first, last = (
            f"`{name}-{s}`" for s in generation.sizes[:: len(generation.sizes) - 1]
        )
        version = (
            f"`{generation.runtime}`" if generation.runtime else "none: only on GKE"
        )
        assert f"| {first} ... {last} | {version}" in page
