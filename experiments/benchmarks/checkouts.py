"""Networks of the original projects, from a checkout beside stjax (``--peer=PATH``).

Nothing of them is here: each function imports the user's own copy, with what it needs
installed, at the width and length of a config of stjax.
"""

import sys
from pathlib import Path

from torch import nn


class TakesList(nn.Module):
    """PySlowFast's networks take a list of pathways; in evaluation they give scores.

    Attributes:
      net: the network.
      scores: whether it applies a softmax in evaluation: then this gives its logarithm,
        which has the same softmax as the logits.
    """

    def __init__(self, net: nn.Module, scores: bool):
        """Wraps a network."""
        super().__init__()
        self.net, self.scores = net, scores

    def forward(self, x):
        """[B, C, T, H, W] -> logits [B, K]."""
        y = self.net([x])
        return y if self.training or not self.scores else y.log()


def openstl(path: Path, config) -> nn.Module:
    """OpenSTL's ``SimVP_Model`` with the TAU translator."""
    sys.path.insert(0, str(path))
    from openstl.models.simvp_model import SimVP_Model

    from stjax.aot.specs import spec_of

    t, h, w, c = spec_of(config).input_shape
    model = config.model
    return SimVP_Model(
        (t, c, h, w),
        hid_S=model.hid_s,
        hid_T=model.hid_t,
        N_S=model.n_s,
        N_T=model.n_t,
        model_type="tau",
        mlp_ratio=model.mlp_ratio,
        drop_path=model.drop_path_rate,
    )


def uniformer(path: Path, config) -> nn.Module:
    """Sense-X/UniFormer's ``Uniformer``; the folder is ``video_classification``."""
    inside = path / "video_classification"
    path = inside if inside.is_dir() else path
    cfg, build_model = _slowfast(path, "exp/uniformer_s16x4_k400/config.yaml", config)
    cfg.UNIFORMER.PRETRAIN_NAME = None
    for name in ("DEPTH", "EMBED_DIM", "HEAD_DIM"):
        if config.model.get(name.lower()):
            value = config.model[name.lower()]
            setattr(cfg.UNIFORMER, name, list(value) if name != "HEAD_DIM" else value)
    cfg.UNIFORMER.DROP_DEPTH_RATE = config.model.drop_path_rate
    return TakesList(build_model(cfg), scores=False)


def slowfast(path: Path, config) -> nn.Module:
    """PySlowFast's I3D with non-local blocks."""
    cfg, build_model = _slowfast(
        path, "configs/Kinetics/c2/I3D_NLN_8x8_R50.yaml", config
    )
    # Its head pools a window of (crop // 32); one that covers the whole last map.
    cfg.DATA.TRAIN_CROP_SIZE = 32 * -(-config.data.size // 32)
    return TakesList(build_model(cfg), scores=True)


def _slowfast(path: Path, file: str, config):
    """The config of a ``slowfast`` package for these clips, and its ``build_model``."""
    sys.path.insert(0, str(path))
    from slowfast.config.defaults import get_cfg
    from slowfast.models import build_model

    cfg = get_cfg()
    cfg.merge_from_file(str(path / file))
    cfg.NUM_GPUS = 0
    cfg.DATA.NUM_FRAMES = config.data.t_in
    cfg.DATA.TRAIN_CROP_SIZE = config.data.size
    cfg.MODEL.NUM_CLASSES = config.data.num_classes
    return cfg, build_model


BUILD = {"openstl": openstl, "uniformer": uniformer, "slowfast": slowfast}
ROOT = {"openstl": "", "uniformer": "video_classification", "slowfast": ""}
"""What unpickling a network of a project needs on the path, below the checkout."""
