"""Memory that was touched once is not asked for again."""

import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
import numpy as np
from stjax.pages import keep_pages
if sys.argv[1] == "kept" and not keep_pages():
    sys.exit("not glibc")
faults = []
for _ in range(4):
    np.zeros(2**24).fill(1.0)  # 128 MiB
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[0])
"""


def _faults(how: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, how],
        capture_output=True,
        text=True,
        env={"PATH": "", "THP": "0"},
    )
    if "not glibc" in run.stderr:
        pytest.skip("keeping pages is glibc's")
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="keeping pages is glibc's")
def test_pages_stay():
    # Three more arrays of 128 MiB: pages of 4 KiB, or of 2 MiB, each of them a fault.
    assert _faults("given back") >= 3 * 64
    assert _faults("kept") < 64
