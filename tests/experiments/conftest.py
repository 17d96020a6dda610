"""The scripts define flags when they are imported; here all of them share a process."""

from pathlib import Path

from absl import flags

_SHARED = ("alone", "init_from", "only", "out", "path", "rows", "scale")
_SHARED += ("seed", "seeds", "steps", "table", "workdir")
_SHARED += ("clips", "peer", "repeats", "rounds", "seconds", "video")


def pytest_collectstart(collector):
    """Before a test module is imported, the flags of other scripts are forgotten."""
    if Path(str(collector.path)).parent == Path(__file__).parent:
        for name in _SHARED:
            if name in flags.FLAGS:
                delattr(flags.FLAGS, name)
