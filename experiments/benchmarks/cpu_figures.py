"""What `cpu.py` times: four configs, and what each of its processes needs of them.

    python experiments/benchmarks/cpu_figures.py FIGURE FOLDER [--peer=PATH]

writes to FOLDER the config, the raw batch, and the same of PyTorch: a network, its
weights under the original's names, its inputs, and the network for ONNX Runtime.
"""

import argparse
import dataclasses
import importlib
import json
import sys
import warnings
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Figure:
    """A row of the table.

    Attributes:
      title: in words.
      config: of stjax.
      peer: a module in ``peers``.
      project: whose checkout ``--peer`` may name, see `checkouts`.
      clips: of a batch.
      fields: of the config that are set.
    """

    title: str
    config: str
    peer: str
    project: str
    clips: int
    fields: dict = dataclasses.field(default_factory=dict)


_SMALL = {
    **{"data.size": 112, "data.test_size": 112, "data.clips": 1, "data.crops": 1},
    "train.bn_group": None,
}
_UNMIXED = {
    **{"data.repeats": 1, "mix.mixup": None, "mix.cutmix": None, "mix.erase": None},
    "loss.label_smoothing": None,
}
FIGURES = {
    "tau_moving_mnist": Figure(
        "TAU, Moving MNIST (10 to 10 frames of 64x64)",
        *("tau/moving_mnist", "tau", "openstl", 2),
    ),
    "tau_taxibj": Figure(
        "TAU, TaxiBJ (4 to 4 frames of 32x32, 2 channels)",
        *("tau/taxibj", "tau", "openstl", 8),
    ),
    "uniformer_s": Figure(
        "UniFormer-S, 8 frames of 112x112",
        *("uniformer/kinetics400:s,8x8", "uniformer", "uniformer", 2),
        {**_SMALL, **_UNMIXED},
    ),
    "nl_i3d_r50": Figure(
        "I3D ResNet-50 with 5 non-local blocks, 8 frames of 112x112",
        *("nonlocal/slowfast:i3d_nln_r50", "nl_i3d", "slowfast", 2),
        _SMALL,
    ),
}


def config_of(figure: Figure, miniature: bool = False):
    """The config with the figure's fields; ``miniature`` for tests."""
    from stjax.config import load_config

    variant = ("," if ":" in figure.config else ":") + "miniature" if miniature else ""
    config = load_config(figure.config + variant)
    with config.unlocked():
        config.update_from_flattened_dict(figure.fields)
        if miniature and "data.size" in figure.fields:
            config.data.update(size=32, test_size=32)
        config.data.batch = figure.clips
        config.mesh.data = 1
    return config


def raw_batch(config) -> dict[str, np.ndarray]:
    """A training batch as it reaches the device: noise, and random classes."""
    from stjax.aot.specs import spec_of

    rng, spec = np.random.default_rng(0), spec_of(config)
    clips = config.data.batch
    batch = {"weight": np.ones(clips, np.float32)}
    for name, (shape, dtype) in spec.arrays.items():
        if dtype == "uint8":
            batch[name] = rng.integers(0, 256, (clips, *shape), np.uint8)
        else:
            batch[name] = np.eye(*shape, dtype=dtype)[rng.integers(*shape, size=clips)]
    return batch


def torch_batch(config, batch: dict) -> dict[str, np.ndarray]:
    """The same, normalised, channels before the sides of the frames as PyTorch has it.

    Videos [B, T, C, H, W]; clips to recognise [B, C, T, H, W] and class numbers.
    """
    from stjax.aot.specs import spec_of
    from stjax.data.base import LabelSpec

    spec = spec_of(config)

    def normal(raw):
        return (raw.astype(np.float32) - np.float32(spec.offset)) / np.float32(
            spec.scale
        )

    if isinstance(spec, LabelSpec):
        x = normal(batch["input"][:, 0]).transpose(0, 4, 1, 2, 3)
        found = {"input": x, "target": batch["target"].argmax(-1)}
    else:
        names = "input", "target"
        found = {k: normal(batch[k]).transpose(0, 1, 4, 2, 3) for k in names}
    return {k: np.ascontiguousarray(v) for k, v in found.items()}


def build_peer(figure: Figure, config, checkout: str | None):
    """The PyTorch network of a checkout, or of ``peers``; its weights are drawn anew.

    Scales and shifts of norms are moved away from one and zero: a network whose blocks
    begin with a scale of zero would agree with any other.
    """
    import torch

    torch.manual_seed(0)
    if checkout:
        import checkouts

        model = checkouts.BUILD[figure.project](Path(checkout), config)
    else:
        model = importlib.import_module(f"peers.{figure.peer}").build(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and "layer_scale" not in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def prepare(figure: Figure, folder: Path, checkout=None, miniature=False) -> None:
    """Writes everything to the folder; see the module."""
    import torch

    from stjax.config import to_dict

    config = config_of(figure, miniature)
    batch = raw_batch(config)
    np.savez(folder / "raw.npz", **batch)
    arrays = torch_batch(config, batch)
    np.savez(folder / "torch.npz", **arrays)
    (folder / "config.json").write_text(json.dumps(to_dict(config)))
    optim = {k: config.optim.get(k) for k in ("name", "lr", "momentum", "nesterov")}
    optim["weight_decay"] = config.optim.weight_decay or 0.0
    plain = {"peer": figure.peer, "checkout": checkout, "project": figure.project}
    plain |= {"clips": config.data.batch, "optim": optim}
    (folder / "figure.json").write_text(json.dumps(plain))
    model = build_peer(figure, config, checkout)
    weights = getattr(model, "net", model).state_dict()
    np.savez(folder / "weights.npz", **{k: v.numpy() for k, v in weights.items()})
    torch.save(model, folder / "model.pt")
    problem = export_onnx(model.eval(), arrays["input"], folder / "net.onnx")
    (folder / "onnx.txt").write_text(problem)


def export_onnx(model, x: np.ndarray, file: Path) -> str:
    """Writes the network for ONNX Runtime; why it cannot, or nothing."""
    import torch

    try:
        import onnx  # noqa: F401  (torch.onnx needs it)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                (torch.from_numpy(x),),
                str(file),
                dynamo=False,
                opset_version=18,
                input_names=["x"],
            )
    except Exception as error:  # whatever its conversion meets
        return f"torch.onnx.export: {' '.join(str(error).split())[:200]}"
    return ""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer")
    parser.add_argument("--miniature", action="store_true")
    given = parser.parse_args()
    prepare(FIGURES[given.figure], given.folder, given.peer, given.miniature)


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER))
    main()
