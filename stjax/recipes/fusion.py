"""How the authors of the probabilistic view trained (CVPR 2020, arXiv 2004.04981).

By paper, supplement and launch scripts. Two phases make a search: without gates and
with all paths from ImageNet's weights, then with gates from there. How fixed strategies
were trained nobody tells; here as the first phase.
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from stjax.recipes.recognition import dataset, sampling, training
from stjax.search.published import published_strategy

STRATEGIES = ("search", "s", "st", "s_st", "opt")
_UNITS = {"s": "S", "st": "ST", "s_st": "S+ST"}
_MODELS = {
    "densenet121": "densenet121_3d",
    "resnet50": "fusion_resnet50",
    "resnext50": "fusion_resnext50",
    "resnext101": "fusion_resnext101",
    "mobilenetv2": "fusion_mobilenetv2",
}


def published(
    config: ConfigDict,
    data: str,
    net: str,
    strategy: str,
    *,
    weight_reg: float,
    n_train: int | None,
    first: tuple[int, Sequence[int]] = (50, (30, 40)),
    gated: tuple[int, Sequence[int]] = (90, (40, 60, 80)),
    batch: int = 32,
    lr: float = 0.005,
    frames: tuple[int, int] = (16, 2),
    flip: bool = False,
    **model: object,
) -> None:
    """Fills in all of a config.

    SGD with momentum, a tenth of the rate after each of some epochs, batch statistics
    of the whole batch. Independent gates and the objective of the authors' code; the
    gates have an Adam of their own, where they shared the weights' SGD and hardly moved
    by themselves. A clip is seen once, at its centre.

    Args:
      config: unlocked.
      data: a key of `stjax.recipes.recognition.DATASETS`.
      net: a network of the paper.
      strategy: a name in `STRATEGIES`.
      weight_reg: what the paper calls k; its code multiplies by it as it is.
      n_train: training clips N; None: as many as there are.
      first: epochs of the phase without gates, and after which the rate falls.
      gated: of the one with gates.
      batch: clips of a step.
      lr: of the beginning of both.
      frames: of a clip, and the step between them.
      flip: mirror half of the clips.
      **model: fields.
    """
    config.model = {"name": _MODELS[net], **model}
    dataset(config, data)
    sampling(config, *frames, "strided", clips=1, crops=1, jitter=(256, 320), flip=flip)
    config.data.update(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    search = strategy == "search"
    epochs, falls = gated if search else first
    training(
        config,
        batch,
        name="sgd",
        lr=lr,
        momentum=0.9,
        weight_decay=0.0 if search else 5e-4,
        schedule="steps",
        **_falling(falls),
    )
    config.train.update(epochs=epochs, save_every=2_000)
    config.model.dropout = 0.0 if search else 0.5
    if not search:
        opt = strategy == "opt"
        name = config.model.name
        config.model.units = published_strategy(name, data) if opt else _UNITS[strategy]
        return
    config.search.update(
        gate="bernoulli",
        objective="code",
        weight_reg=float(weight_reg),
        n_train=n_train,
        warmup=(
            f"train.epochs={first[0]}",
            *(f"optim.{key}={value}" for key, value in _falling(first[1]).items()),
            "optim.weight_decay=5e-4",
            "model.dropout=0.5",
        ),
    )


def _falling(falls: Sequence[int]) -> dict[str, tuple[float, ...]]:
    """A tenth of the learning rate after each of these epochs."""
    factors = tuple(float(f"1e-{i}") for i in range(len(falls) + 1))
    return {"milestones": (0, *falls), "factors": factors}
