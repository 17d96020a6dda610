"""A fast version of experiments/crash_safety.py: three kills."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "crash_safety.py"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="LD_PRELOAD of Linux")
@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_two_kills_in_a_save_and_one_at_random(tmp_path):
    if not EXPERIMENT.exists():
        pytest.skip("experiments/ is not here: a test of the installed package")
    env = os.environ | {
        "XLA_FLAGS": "",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    flags = ["--calls=2", "--kills=1", "--full=0", "--steps=60"]
    done = subprocess.run(
        [sys.executable, str(EXPERIMENT), f"--workdir={tmp_path}", *flags],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "crash_safety.json").read_text())
    save = report["every_call"]
    assert save["calls"] > 50 and save["killed_at"] == 2
    resumed = [
        save[f"resumed_with_{k}"] for k in ("the_checkpoint_before", "the_new_one")
    ]
    assert sum(resumed) == 2
    assert report["kills"]["kills"] == 1
