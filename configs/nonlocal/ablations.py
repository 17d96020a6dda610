"""The rows of the non-local paper's Table 2 that are no variant of nonlocal/kinetics.

Clips of 32x2, top-1 / top-5 on Kinetics-400, e.g. ``nonlocal/ablations:gaussian``:

- 2a, C2D-50 with 1 block: gaussian 72.5/90.2, dot_product 72.9/90.3, concatenation
  72.8/90.5 (embedded Gaussian 72.7/90.5, none 71.8/89.7);
- 2b, C2D-50 with 1 block: res2 72.7/90.3, res3 72.9/90.4, res5 72.3/90.1 (res4
  72.7/90.5);
- 2d, C2D with 5 blocks: space_r50 72.9/90.8, time_r50 73.1/90.5, space_r101 74.4/91.3,
  time_r101 74.4/90.5 (spacetime 73.8/91.0 and 75.1/91.7);
- 2e: i3d_3x3x3_r101 74.1/91.2 (I3D 3x1x1 74.4/91.1).

data.path and train.init_from: as in nonlocal/kinetics.
"""

from ml_collections import ConfigDict

from stjax.recipes.non_local import published
from stjax.recipes.recognition import recipe

_ONE = {"name": "c2d_r50", "non_local": 1}
ROWS = {
    "gaussian": {**_ONE, "pairwise": "gaussian"},
    "dot_product": {**_ONE, "pairwise": "dot_product"},
    "concatenation": {**_ONE, "pairwise": "concatenation"},
    # Before the last residual block of the stage.
    "res2": {"name": "c2d_r50", "places": ("res2_1",)},
    "res3": {"name": "c2d_r50", "places": ("res3_2",)},
    "res5": {"name": "c2d_r50", "places": ("res5_1",)},
    "space_r50": {"name": "c2d_r50", "non_local": 5, "attend": "space"},
    "time_r50": {"name": "c2d_r50", "non_local": 5, "attend": "time"},
    "space_r101": {"name": "c2d_r101", "non_local": 5, "attend": "space"},
    "time_r101": {"name": "c2d_r101", "non_local": 5, "attend": "time"},
    "i3d_3x3x3_r101": {"name": "i3d_r101", "inflated": "3x3x3"},
}


@recipe("nonlocal/ablations", row=tuple(ROWS))
def get_config(config: ConfigDict, row: str) -> None:
    """Variants: a row of a table."""
    published(config, "32x2", **ROWS[row])


miniature = get_config.miniature
