"""Start-up on several hosts: one process each, joined before devices are touched.

JAX finds the other processes itself on Cloud TPU, Slurm, Open MPI and Kubernetes; what
is decided here is whether there are any: see `join`.
"""

import functools
import glob
import importlib.util
import os
import sys
import threading
import urllib.request
from collections.abc import Callable

import jax

from stjax.errors import UserError

_SWITCH = "STJAX_DISTRIBUTED"
_METADATA = (
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/"
    "worker-network-endpoints"
)
_TRY_AGAIN = 75  # sysexits.h; status 2 would tell job managers that it is in vain
_LEAVE = 10.0  # seconds that a process which failed waits for the others


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    timeout: float = 300,
) -> bool:
    """Joins the processes of a run; call it first, and once, in each of them.

    By the arguments where they are given, otherwise by what the surroundings say:

    * Cloud TPU: several workers in the slice, or several slices;
    * Slurm (``srun``) and Open MPI: more than one task;
    * Kubernetes: a pod of an indexed Job or JobSet.

    The environment variable ``STJAX_DISTRIBUTED=1`` asks for it anywhere (a single TPU
    host too), ``STJAX_DISTRIBUTED=0`` forbids it. Otherwise nothing is done: a program
    on one host needs no coordinator.

    Args:
      coordinator: "HOST:PORT" of process 0, a port that is free there.
      processes: their number.
      process: the index of this one, from 0.
      timeout: seconds to wait for the others. Who waits longer ends the process, with
        one line and status 75, so that what restarts jobs tries again: JAX would
        abort it.

    Returns:
      Whether there is more than one process.

    Raises:
      UserError: the arguments do not make sense, or JAX cannot find the others.
    """
    explicit = {"coordinator": coordinator, "processes": processes, "process": process}
    given = [name for name, value in explicit.items() if value is not None]
    switch = os.environ.get(_SWITCH, "")
    if switch not in ("", "0", "1"):
        raise UserError(f"{_SWITCH}={switch}: expected 0 or 1")
    if given:
        _check(explicit, switch)
        start = functools.partial(
            jax.distributed.initialize,
            coordinator,
            processes,
            process,
            cluster_detection_method="deactivate",
        )
        who = f"process {process} of {processes} (coordinator {coordinator})"
    else:
        where = surroundings()
        if switch == "0" or not (where or switch):
            return False
        start, who = jax.distributed.initialize, f"this process ({where or 'found'})"
    _start(start, who, timeout)
    return jax.process_count() > 1


def surroundings() -> str:
    """What runs this process as one of several, or "": in words."""
    env = os.environ
    platforms = env.get("JAX_PLATFORMS") or "tpu"
    if "tpu" in platforms.split(",") and _tpu_workers() > 1:
        return "Cloud TPU workers"
    if "SLURM_STEP_NODELIST" in env and int(env.get("SLURM_NTASKS", 1)) > 1:
        return "Slurm tasks"
    if int(env.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        return "Open MPI ranks"
    on_tpu = "TPU_WORKER_HOSTNAMES" in env  # GKE has told: it is a single one
    if {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= env.keys() and not on_tpu:
        return "pods of a Kubernetes job"
    return ""


def leave(status: int) -> None:
    """Ends a process that failed, before it would wait for the others for minutes.

    They get some seconds to fail as well (of a wrong config, say, all do). Without
    others it does nothing.
    """
    if not jax.distributed.is_initialized():
        return
    end = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    end.start()
    end.join(_LEAVE)
    if end.is_alive():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _check(explicit: dict, switch: str) -> None:
    missing = [f"--{name}" for name, value in explicit.items() if value is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} missing: several processes take all of"
            " --coordinator=HOST:PORT --processes=N --process=I"
        )
    if switch == "0":
        raise UserError(f"{_SWITCH}=0 forbids several processes; unset it")
    coordinator, processes, process = explicit.values()
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdigit() and 0 < int(port) < 2**16):
        raise UserError(
            f"--coordinator={coordinator}: expected HOST:PORT of process 0, such as"
            " 10.0.0.1:8476"
        )
    if processes < 1 or not 0 <= process < processes:
        raise UserError(
            f"--process={process} of --processes={processes}: expected 0 to"
            f" {max(processes - 1, 0)}"
        )


def _start(start: Callable, who: str, timeout: float) -> None:
    def late() -> None:
        line = (
            f"stjax: {who} waited {timeout:g} s for the others in vain; start all of"
            " them, and check that they reach the coordinator's address and port"
        )
        print(line, file=sys.stderr, flush=True)
        os._exit(_TRY_AGAIN)

    # JAX would abort with a stack trace, which nobody can catch.
    clock = threading.Timer(timeout, late)
    clock.daemon = True
    clock.start()
    try:
        start(initialization_timeout=int(timeout) + 60)
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{who} cannot join the others: {reason}; give --coordinator --processes"
            f" --process, or {_SWITCH}=0 for a run of one process"
        ) from error
    finally:
        clock.cancel()


def _tpu_workers() -> int:
    """Hosts of this TPU job over all slices; 1 where this is no TPU."""
    slices = int(os.environ.get("MEGASCALE_NUM_SLICES", 1))
    for name in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"):  # GKE
        if name in os.environ:
            return slices * len(os.environ[name].split(","))
    if "TPU_SKIP_MDS_QUERY" in os.environ or not _tpu_here():
        return slices
    request = urllib.request.Request(_METADATA, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # TPU VM
            return slices * len(answer.read().decode().split(","))
    except OSError:
        return slices


def _tpu_here() -> bool:
    """Whether this is a TPU VM: libtpu, and what its driver shows (v5e on: vfio)."""
    devices = glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*")
    return bool(devices) and importlib.util.find_spec("libtpu") is not None
