"""Tables 2a to 2g of the non-local networks' paper: what a row is, and its numbers.

Kinetics-400, validation, 10 clips of whole frames; top-1 and top-5 in percent.
"""

from ablation import Row

_C50, _C101 = {"name": "c2d_r50"}, {"name": "c2d_r101"}
_I50, _I101 = {"name": "i3d_r50"}, {"name": "i3d_r101"}
_ONE, _FIVE, _TEN = {"non_local": 1}, {"non_local": 5}, {"non_local": 10}
_BEFORE = "before its last residual block"

TABLES: dict[str, dict[str, Row]] = {
    # Pairwise functions, one block.
    "2a": {
        "baseline": Row(_C50, 71.8, 89.7),
        "gaussian": Row(_C50 | _ONE | {"pairwise": "gaussian"}, 72.5, 90.2),
        "embedded_gaussian": Row(_C50 | _ONE, 72.7, 90.5),
        "dot_product": Row(_C50 | _ONE | {"pairwise": "dot_product"}, 72.9, 90.3),
        "concatenation": Row(_C50 | _ONE | {"pairwise": "concatenation"}, 72.8, 90.5),
    },
    # The stage of one block.
    "2b": {
        "res2": Row(_C50 | {"places": ("res2_1",)}, 72.7, 90.3, _BEFORE),
        "res3": Row(_C50 | {"places": ("res3_2",)}, 72.9, 90.4, _BEFORE),
        "res4": Row(_C50 | {"places": ("res4_4",)}, 72.7, 90.5, _BEFORE),
        "res5": Row(_C50 | {"places": ("res5_1",)}, 72.3, 90.1, _BEFORE),
    },
    # Number of blocks.
    "2c": {
        "r50_nl0": Row(_C50, 71.8, 89.7),
        "r50_nl1": Row(_C50 | _ONE, 72.7, 90.5),
        "r50_nl5": Row(_C50 | _FIVE, 73.8, 91.0),
        "r50_nl10": Row(_C50 | _TEN, 74.3, 91.2),
        "r101_nl0": Row(_C101, 73.1, 91.0),
        "r101_nl1": Row(_C101 | _ONE, 74.3, 91.3),
        "r101_nl5": Row(_C101 | _FIVE, 75.1, 91.7),
        "r101_nl10": Row(_C101 | _TEN, 75.1, 91.6),
    },
    # Positions that one sees, five blocks.
    "2d": {
        "r50_baseline": Row(_C50, 71.8, 89.7),
        "r50_space": Row(_C50 | _FIVE | {"attend": "space"}, 72.9, 90.8),
        "r50_time": Row(_C50 | _FIVE | {"attend": "time"}, 73.1, 90.5),
        "r50_spacetime": Row(_C50 | _FIVE, 73.8, 91.0),
        "r101_baseline": Row(_C101, 73.1, 91.0),
        "r101_space": Row(_C101 | _FIVE | {"attend": "space"}, 74.4, 91.3),
        "r101_time": Row(_C101 | _FIVE | {"attend": "time"}, 74.4, 90.5),
        "r101_spacetime": Row(_C101 | _FIVE, 75.1, 91.7),
    },
    # Non-local blocks or 3-D convolutions.
    "2e": {
        "c2d": Row(_C101, 73.1, 91.0, "1x parameters, 1x FLOPs"),
        "i3d_3x3x3": Row(_I101 | {"inflated": "3x3x3"}, 74.1, 91.2, "1.5x, 1.8x"),
        "i3d_3x1x1": Row(_I101, 74.4, 91.1, "1.2x, 1.5x"),
        "nl_c2d": Row(_C101 | _FIVE, 75.1, 91.7, "1.2x, 1.2x"),
    },
    # Both, clips of 32 frames.
    "2f": {
        "r50_c2d": Row(_C50, 71.8, 89.7),
        "r50_i3d": Row(_I50, 73.3, 90.7),
        "r50_nl_i3d": Row(_I50 | _FIVE, 74.9, 91.6),
        "r101_c2d": Row(_C101, 73.1, 91.0),
        "r101_i3d": Row(_I101, 74.4, 91.1),
        "r101_nl_i3d": Row(_I101 | _FIVE, 76.0, 92.1),
    },
    # The same, clips of 128 frames.
    "2g": {
        "r50_c2d": Row(_C50, 73.8, 91.2),
        "r50_i3d": Row(_I50, 74.9, 91.7),
        "r50_nl_i3d": Row(_I50 | _FIVE, 76.5, 92.6),
        "r101_c2d": Row(_C101, 75.3, 91.8),
        "r101_i3d": Row(_I101, 76.4, 92.7),
        "r101_nl_i3d": Row(_I101 | _FIVE, 77.7, 93.3),
    },
}


def shorter(row: str) -> str:
    """The row of Table 2f that a row of Table 2g starts from: without blocks."""
    return row.replace("nl_", "")
