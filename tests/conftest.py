"""Test set-up: 8 simulated CPU devices, compile cache, reference files."""

import os
from pathlib import Path

# Before jax is imported anywhere: the tests shard over 8 devices on any machine, and
# compile a lot to compute little.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8"
    " --xla_backend_optimization_level=0"
    " --xla_llvm_disable_expensive_passes=true " + os.environ.get("XLA_FLAGS", "")
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import numpy as np
import pytest
from absl import flags

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()

_CACHE = Path(__file__).parent.parent / ".pytest_cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder with golden/, data/ and reference/ (STJAX_REFERENCE)."""
    path = os.environ.get("STJAX_REFERENCE", "")
    if not path:
        pytest.skip("STJAX_REFERENCE is not set: the reference files are not here")
    if not Path(path, "golden").is_dir():
        pytest.fail(f"STJAX_REFERENCE={path} has no folder golden/")
    return Path(path)


@pytest.fixture(scope="session")
def golden():
    """Loads arrays computed by an original project: ``golden("simvp_tau.npz")``."""

    def load(name: str):
        shipped = Path(__file__).parent / "golden" / name
        outside = Path(
            os.environ.get("STJAX_REFERENCE", "/nonexistent"), "golden", name
        )
        for path in (shipped, outside):
            if path.exists():
                return np.load(path, allow_pickle=False)
        pytest.skip(f"{name} is neither in tests/golden nor in STJAX_REFERENCE")

    return load
