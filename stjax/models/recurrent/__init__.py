"""The recurrent baselines: one model a file, one loop (`rollout.py`) for all."""

from stjax.models.recurrent.convlstm import ConvLSTM
from stjax.models.recurrent.e3dlstm import E3DLSTM
from stjax.models.recurrent.mau import MAU
from stjax.models.recurrent.mim import MIM
from stjax.models.recurrent.phydnet import PhyDNet
from stjax.models.recurrent.predrnn import PredRNN, PredRNNv2
from stjax.models.recurrent.predrnnpp import PredRNNpp
from stjax.models.recurrent.rollout import Rollout
from stjax.models.recurrent.swinlstm import SwinLSTMB
from stjax.models.recurrent.swinlstm_deep import SwinLSTM

__all__ = [
    "E3DLSTM",
    "MAU",
    "MIM",
    "ConvLSTM",
    "PhyDNet",
    "PredRNN",
    "PredRNNpp",
    "PredRNNv2",
    "Rollout",
    "SwinLSTM",
    "SwinLSTMB",
]
