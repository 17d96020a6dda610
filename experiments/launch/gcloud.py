"""Commands for TPU VMs, which a queued resource brings when capacity is there.

Nothing here waits, schedules or retries: Google's queue gives the machines, and systemd
on them keeps the training running.
"""

import shlex

from experiments.launch.accelerators import runtime_version
from experiments.launch.jobs import Job

Command = list[str]

_PYTHON = "$HOME/stjax-venv"  # a virtual environment of the machine
# Ubuntu 22.04 has Python 3.10, stjax needs 3.11: uv brings its own.
_INSTALL = (
    "python3 -m pip install --quiet --user --upgrade uv"
    f" && python3 -m uv venv --quiet --clear --python=3.12 {_PYTHON}"
    f" && python3 -m uv pip install --quiet --python={_PYTHON}/bin/python "
)


def setup(job: Job) -> list[Command]:
    """Once a project: services, the bucket, and an account that may use it."""
    member = f"--member=serviceAccount:{job.account}"
    project = f"--project={job.project}"
    services = ["compute", "tpu", "storage", "iam"]
    commands = []
    if job.cluster:
        services += ["container"]
        role = "--role=roles/container.defaultNodeServiceAccount"
        bind = ["gcloud", "projects", "add-iam-policy-binding", job.project]
        commands = [[*bind, member, role]]
    names = [f"{name}.googleapis.com" for name in services]
    buckets = ["gcloud", "storage", "buckets"]
    return [
        ["gcloud", "services", "enable", *names, project],
        [
            *[*buckets, "create", job.bucket, project, f"--location={job.region}"],
            "--uniform-bucket-level-access",
        ],
        ["gcloud", "iam", "service-accounts", "create", job.service_account, project],
        [
            *[*buckets, "add-iam-policy-binding", job.bucket, member],
            "--role=roles/storage.admin",
        ],
        *commands,
    ]


def create(job: Job) -> list[Command]:
    """Queues for the TPUs. Also after a preemption, once the old ones are deleted."""
    command = [
        *_queued(job, "create"),
        f"--node-id={job.name}",
        f"--accelerator-type={job.accelerator}",
        f"--runtime-version={runtime_version(job.accelerator)}",
        f"--service-account={job.account}",
        "--scopes=https://www.googleapis.com/auth/cloud-platform",
    ]
    return [[*command, "--spot"] if job.spot else command]


def status(job: Job) -> list[Command]:
    """The state of the request: ACTIVE when there are machines."""
    return [[*_queued(job, "describe"), "--format=value(state.state)"]]


def run(job: Job) -> list[Command]:
    """Installs stjax on all workers, and starts the training under systemd."""
    settings = [
        f"--unit={job.name}",
        "--collect",
        "--uid=$(id -u)",
        "--working-directory=$HOME",
        f"--setenv=JAX_COMPILATION_CACHE_DIR={job.cache}",
        "--property=Restart=on-failure",
        "--property=RestartSec=10",
        "--property=RestartPreventExitStatus=2",  # an error of the user's
        "--property=TimeoutStopSec=600",  # for a last checkpoint
    ]
    start = f"sudo systemd-run {' '.join(settings)} {_PYTHON}/bin/{job.train}"
    install = _INSTALL + shlex.quote(job.requirement)
    return [_ssh(job, "all", install), _ssh(job, "all", start)]


def logs(job: Job) -> list[Command]:
    """What the first worker prints, until Ctrl-C."""
    command = f"sudo journalctl --unit={job.name} --lines=50 --no-pager --follow"
    return [_ssh(job, "0", command)]


def fetch(job: Job) -> list[Command]:
    """Brings the results and the picture here."""
    copy, folder = ["gcloud", "storage", "cp"], job.workdir
    return [
        [*copy, f"{folder}/results.json", f"{job.name}.json"],
        [*copy, f"{folder}/pictures/test.png", f"{job.name}.png"],
    ]


def stop(job: Job) -> list[Command]:
    """Ends the training with a checkpoint; `run` goes on."""
    return [_ssh(job, "all", f"sudo systemctl stop {job.name}")]


def delete(job: Job) -> list[Command]:
    """Gives the machines back; what is in the bucket stays."""
    return [[*_queued(job, "delete"), "--force"]]


def _place(job: Job) -> list[str]:
    return [f"--project={job.project}", f"--zone={job.zone}"]


def _queued(job: Job, verb: str) -> Command:
    tpus = ["gcloud", "compute", "tpus", "queued-resources", verb, job.name]
    return [*tpus, *_place(job)]


def _ssh(job: Job, worker: str, command: str) -> Command:
    ssh = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", job.name, *_place(job)]
    return [*ssh, f"--worker={worker}", f"--command={command}"]
