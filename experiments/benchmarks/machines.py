"""Where figures come from."""

import datetime
import os
import platform
from pathlib import Path


def machine() -> dict:
    """Where the numbers come from."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [
            x.partition(":")[2].strip() for x in lines if x.startswith("model name")
        ]
        model = names[0] if names else model
    flags_set = {
        k: os.environ[k] for k in ("XLA_FLAGS", "OMP_NUM_THREADS") if k in os.environ
    }
    return {
        "processor": model,
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "environment": flags_set,
        "date": datetime.date.today().isoformat(),
    }
