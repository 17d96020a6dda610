"""Strategies that were published (CVPR 2020, arXiv 2004.04981, and its supplement).

A letter a slot, in the order of the slots: s is S, t is ST, + is S+ST.

* DenseNet-121: the best of each search, read off the paper's figure 4; a block's
  layers, then its transition.
* The others: made by hand from what the authors saw there. Something-Something: S+ST
  in the first half and the last three blocks, ST elsewhere; UCF101: S+ST everywhere;
  Kinetics: S+ST and S in turn, ST at last. Where text and code tell less than a block
  (ResNeXt-101 on Kinetics outside its third stage) it is as for Something-Something.
"""

from stjax.errors import unknown
from stjax.layers.slots import Strategy

_UNITS = {"s": "S", "t": "ST", "+": "S+ST"}
_SOMETHING_50 = "+++++++tttttt+++"
_SOMETHING_101 = "+++++++" + "t" + 9 * "+" + 13 * "t" + "+++"
_KINETICS_101 = "+++++++" + 5 * "s" + 10 * "+" + 4 * "s" + 4 * "t" + "+++"
_SOMETHING_MOBILE = "+++++ttttttt++++"
_KINETICS_MOBILE = "++sss++++sssttt+"

STRATEGIES = {
    "densenet121_3d": {
        "ssv1": "+++++ts+++t+++++++t+++++++++++t++tt++t+tttt++tttt+t+++++t+tt+",
        "ssv2": "+++++t++++++t+++t++++++++++++++t+t++tt+t+++t+++ttt+tt++t+tt+t",
        "kinetics400": "s++++++++++s+ss+sss++t+++++s++++++++++t+ssss++t+tttt++t+++t++",
        "ucf101": 61 * "+",
    },
    "fusion_resnet50": {
        "ssv1": _SOMETHING_50,
        "ssv2": _SOMETHING_50,
        "ucf101": 16 * "+",
    },
    "fusion_resnext50": {
        "ssv1": _SOMETHING_50,
        "ssv2": _SOMETHING_50,
        "ucf101": 16 * "+",
    },
    "fusion_resnext101": {
        "ssv1": _SOMETHING_101,
        "ssv2": _SOMETHING_101,
        "kinetics400": _KINETICS_101,
        "ucf101": 33 * "+",
    },
    "fusion_mobilenetv2": {
        "ssv1": _SOMETHING_MOBILE,
        "ssv2": _SOMETHING_MOBILE,
        "kinetics400": _KINETICS_MOBILE,
        "ucf101": 16 * "+",
    },
}
"""{model: {data set: a letter a slot}}."""


def published_strategy(model: str, dataset: str) -> Strategy:
    """The units of every slot, for the field ``units`` of the model.

    Args:
      model: its name, such as "densenet121_3d".
      dataset: "ssv1", "ssv2", "ucf101" or "kinetics400".

    Raises:
      UserError: there is none for that network or data set.
    """
    if model not in STRATEGIES:
        raise unknown("model with a published strategy", model, STRATEGIES)
    of = STRATEGIES[model]
    if dataset not in of:
        raise unknown(f"data set with a strategy of {model}", dataset, of)
    return tuple(_UNITS[letter] for letter in of[dataset])
