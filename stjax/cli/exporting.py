"""``stjax export`` and ``stjax convert``: trained models as files for others."""

import tempfile

from etils import epath

from stjax.cli.running import checkpoint_step
from stjax.errors import UserError, unknown

_KINDS = ("folder", "program", "torch", "onnx")


def export(
    *,
    workdir: str,
    output: str | None = None,
    kind: str = "folder",
    push: str | None = None,
    private: bool = False,
    step: str = "best",
    frames: int | None = None,
    batch: int | None = None,
    platforms: str = "cpu,cuda,tpu",
    project: str | None = None,
    name: str | None = None,
    license: str = "unknown",
    half: bool = False,
    config: str | None = None,
    labels: str | None = None,
) -> None:
    """Writes a trained model as files for others, or puts it on the Hugging Face Hub.

    Args:
      workdir: of a training, or anything else that stjax.load takes: an exported
        folder, a PyTorch checkpoint with --config, hf://ORG/NAME, a name of the zoo.
      output: folder, or file .npz (program), .safetensors, .npz or .pth (torch), .onnx.
      kind: folder (weights, config and card; the format that lasts), program (.npz for
        CPU, CUDA and TPU, runs with JAX alone), torch (key names of the original), or
        onnx.
      push: hf://ORG/NAME to upload the folder to.
      private: a new model on the Hub is private.
      step: of a workdir: best (the default), last or a number.
      frames: that a program or graph predicts (default: as in training).
      batch: clips that a program or graph takes (default: any number).
      platforms: of a program, with commas between; also rocm.
      project: another project whose key names are wanted, such as mmaction2.
      name: of the model in its card (default: that of the folder).
      license: of the weights, such as apache-2.0 or cc-by-4.0.
      half: a folder with kernels in float16, half the size.
      config: that a PyTorch checkpoint belongs to, such as uniformer/kinetics400.
      labels: file with the class names of a PyTorch checkpoint.
    """
    from stjax import export as exports
    from stjax.loading import load

    if kind not in _KINDS:
        raise unknown("kind of export", kind, _KINDS)
    if push and kind != "folder":
        raise UserError(f"--push uploads a folder; leave out --kind={kind}")
    if not (output or push):
        raise UserError("--output is missing; where to write")
    given = {"frames": frames, "batch": batch}
    if kind not in ("program", "onnx") and any(given.values()):
        raise UserError("--frames and --batch are for --kind=program and --kind=onnx")
    if half and kind != "folder":
        raise UserError("--half is for --kind=folder")
    step = None if step == "best" else checkpoint_step(step)
    model = load(workdir, step, config=config, labels=labels)
    if kind == "program":
        path = exports.to_program(
            model, output, platforms=platforms.split(","), **given
        )
        _say(path, f"runs on {platforms.replace(',', ', ')} with JAX alone")
    elif kind == "torch":
        path = exports.to_torch(model, output, project=project)
        _say(path, "weights under the original's key names")
    elif kind == "onnx":
        path = exports.to_onnx(model, output, **given)
        _say(path, "an ONNX graph")
    else:
        about = {"name": name, "license": license, "half": half}
        _folder(model, output, push, private, **about)


def convert(
    input: str,
    /,
    *,
    config: str,
    output: str,
    labels: str | None = None,
    license: str = "unknown",
) -> None:
    """Writes a checkpoint of a PyTorch original as a folder that stjax.load reads.

    Args:
      input: .pth, .pyth, .pt, .ckpt, .pkl or .safetensors.
      config: that it belongs to, such as tau/moving_mnist; its data set need not be
        there where its size is known.
      output: the folder.
      labels: file with its class names.
      license: of the weights, such as apache-2.0 or cc-by-4.0.
    """
    from stjax.loading import load

    model = load(input, config=config, labels=labels)
    _folder(model, output, None, False, license=license)


def _folder(model, output, push, private, **about) -> None:
    from stjax import export as exports

    if output:
        folder = exports.to_folder(model, output, **about)
        _say(folder, "config.json, model.safetensors and README.md, for stjax.load")
        if push:
            print(f"uploaded to {exports.push(folder, push, private=private)}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        place = epath.Path(scratch) / push.rpartition("/")[2].partition("@")[0]
        exports.to_folder(model, place, **about)
        print(f"uploaded to {exports.push(place, push, private=private)}")


def _say(path: epath.Path, what: str) -> None:
    print(f"wrote {path}: {what}")
