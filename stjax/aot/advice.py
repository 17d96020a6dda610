"""What to change where a program does not fit, and where it would fit as it is."""

import ml_collections

from stjax.aot.report import Report
from stjax.aot.targets import CHIPS

_LARGE = 0.3  # of the memory: then it is worth spreading parameters and moments


def advice(config: ml_collections.ConfigDict, report: Report) -> str:
    """One line for a program that does not fit: what to set, the gentlest first."""
    mesh, found = config.mesh, []
    shares = max(report.devices // mesh.space, 1)
    per_device = report.clips // shares
    state = sum(v for k, v in report.resident.items() if k != "batch")
    if config.dtype == "float32":
        found.append("dtype=bfloat16")
    if state > _LARGE * report.hbm and mesh.fsdp < shares:
        found.append(f"mesh.fsdp={shares} (parameters and optimizer spread)")
    if report.kind == "train" and config.remat == "none":
        found.append("remat=full (activations computed again)")
    if report.kind == "train" and per_device > config.train.accumulate:
        parts = 2 * config.train.accumulate
        found.append(f"train.accumulate={parts} (the batch in parts)")
    if per_device > 1:
        found.append(f"data.batch={max(report.clips // 2 // shares, 1) * shares}")
    elif mesh.space < report.devices:
        found.append(f"mesh.space={2 * mesh.space} (rows of frames spread)")
    return ", or ".join(found) or "a larger topology"


def others(report: Report) -> list[str]:
    """Chips whose memory would hold what this program asks for."""
    if report.peak is None:
        return []
    return [name for name, chip in CHIPS.items() if report.peak <= chip.hbm]
