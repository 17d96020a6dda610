"""Commands for GKE through xpk: its JobSets start interrupted workloads again.

github.com/AI-Hypercomputer/xpk, docs/usage. A workload restarts after the exit statuses
42 and 127 to 255, so after SIGTERM (143) and crashes, not after an error of the user's.
"""

import shlex

from experiments.launch import gcloud
from experiments.launch.gcloud import Command
from experiments.launch.jobs import Job

setup, fetch = gcloud.setup, gcloud.fetch


def create(job: Job) -> list[Command]:
    """Makes the cluster with one slice of TPUs."""
    command = [
        *["xpk", "cluster", "create", *_where(job)],
        f"--tpu-type={job.accelerator}",
        "--num-slices=1",
        f"--custom-nodepool-arguments=--service-account={job.account}",
    ]
    return [[*command, "--spot" if job.spot else "--on-demand"]]


def run(job: Job) -> list[Command]:
    """Queues the training; every start installs stjax and goes on."""
    install = shlex.join(["pip", "install", "--quiet", job.requirement])
    command = [
        *["xpk", "workload", "create", *_where(job), f"--workload={job.name}"],
        f"--tpu-type={job.accelerator}",
        "--num-slices=1",
        f"--docker-image={job.image}",
        f"--max-restarts={job.max_restarts}",
        f"--env=JAX_COMPILATION_CACHE_DIR={job.cache}",
        f"--command={install} && exec {job.train}",  # exec: it gets the signals
    ]
    return [command]


def status(job: Job) -> list[Command]:
    """The state of the workload."""
    command = ["xpk", "workload", "list", *_where(job)]
    return [[*command, f"--filter-by-job={job.name}"]]


def logs(job: Job) -> list[Command]:
    """The last lines that the first worker printed, newest first."""
    parts = [
        'resource.type="k8s_container"',
        f'resource.labels.cluster_name="{job.cluster}"',
        f'resource.labels.pod_name:"{job.name}-slice-job-0-0-"',
    ]
    command = ["gcloud", "logging", "read", " ".join(parts)]
    settings = ["--limit=50", "--format=value(textPayload)"]
    return [[*command, f"--project={job.project}", *settings]]


def stop(job: Job) -> list[Command]:
    """Deletes the workload; what is in the bucket stays, and `run` goes on."""
    command = ["xpk", "workload", "delete", *_where(job)]
    return [[*command, f"--workload={job.name}"]]


def delete(job: Job) -> list[Command]:
    """Deletes the cluster; what is in the bucket stays."""
    return [["xpk", "cluster", "delete", *_where(job)]]


def _where(job: Job) -> list[str]:
    place = [f"--project={job.project}", f"--zone={job.zone}"]
    return [f"--cluster={job.cluster}", *place]
