"""Compiling for accelerators that are not there: does it fit, and how fast might it be.

The compilers of TPUs (package libtpu) and GPUs run on any machine. `compile_config`
gives them the programs of a config, the same as in training, and reads memory,
collectives and cost from what they make. All times are estimates.
"""

from stjax.aot.advice import advice, others
from stjax.aot.compiling import compile_config
from stjax.aot.hlo import collectives
from stjax.aot.programs import compiled
from stjax.aot.report import Report
from stjax.aot.targets import CHIPS, Chip, Topology, parse_topology

__all__ = [
    "CHIPS",
    "Chip",
    "Report",
    "Topology",
    "advice",
    "collectives",
    "compile_config",
    "compiled",
    "others",
    "parse_topology",
]
