"""Forked processes that are killed or run out of disk at a chosen call."""

import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

_SHIM = "STJAX_CRASH_SHIM"


def preload() -> ctypes.CDLL:
    """The shim, in this process; starts Python anew with it preloaded."""
    if _SHIM not in os.environ:
        shim = Path(__file__).with_name("crash_shim.c")
        built = f"/tmp/stjax_crash_shim_{os.getpid()}.so"
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-o", built, shim, "-ldl"], check=True
        )
        os.environ |= {_SHIM: built, "LD_PRELOAD": built}
        os.execv(sys.executable, [sys.executable, *sys.argv])
    return ctypes.CDLL(os.environ[_SHIM])


class Trial:
    """A forked process that runs a function; killed, or ends with a status."""

    def __init__(self, function, *arguments, log: Path):
        self.log = log
        self.pid = os.fork()
        if self.pid:
            return
        status = 1
        try:
            with log.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            function(*arguments)
            status = 0
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    def ended(self) -> bool:
        """Whether there is nothing left to kill."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def wait(self, seconds: float = 300) -> int:
        """The status; negative: killed by this signal; a trial that hangs is killed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise TimeoutError(f"a trial hangs: {self.log.read_text()[-2000:]}")


def done(trial: Trial) -> None:
    """Waits for a trial that has to end well."""
    status = trial.wait()
    if status:
        raise RuntimeError(f"status {status}: {trial.log.read_text()[-3000:]}")


def arm(shim: ctypes.CDLL, folder: Path, kill=0, full=0, log=-1) -> None:
    """From now on calls below a folder count: to a kill, or to a full disk.

    Args:
      shim: of `preload`.
      folder: of the files.
      kill: number of the call at which this process is killed; 0 for never.
      full: number of the call from which on the disk is full; 0 for never.
      log: file descriptor that gets a line for each call.
    """
    numbers = ctypes.c_long(kill), ctypes.c_long(full), log
    shim.crash_arm(str(folder).encode(), *numbers)
