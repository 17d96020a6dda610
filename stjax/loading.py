"""Trained models as functions."""

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path

import ml_collections
from etils import epath

from stjax import hub, zoo
from stjax.data.base import LabelSpec
from stjax.data.labelled import Views, make_views
from stjax.data.sampling import Sampling
from stjax.data.sources.labelled_videos import LabelledVideos
from stjax.errors import UserError
from stjax.prediction import Predictor
from stjax.recognition import Recogniser
from stjax.training.workdir import Run, load_run

# Files of PyTorch originals.
WEIGHTS = (".safetensors", ".pth", ".pyth", ".pt", ".ckpt", ".pkl")


def load(
    path_or_name: str,
    step: int | str | None = None,
    *,
    config: str | ml_collections.ConfigDict | None = None,
    labels: str | Sequence[str] | None = None,
) -> Predictor | Recogniser:
    """A trained model as a function.

    Args:
      path_or_name: one of

        - a workdir of `stjax.train`; may be remote (gs://);
        - a folder of `stjax.export.to_folder`, or ``hf://org/name[@revision]``, such a
          folder on the Hugging Face Hub;
        - an .npz of `stjax.export.to_program`;
        - a checkpoint of the PyTorch original (.pth, .safetensors ...), with `config`;
        - a name of the zoo, see `stjax models --zoo`.
      step: of a workdir's checkpoint: "best" (the default), "last" or a number.
      config: that a PyTorch checkpoint belongs to: a name such as
        "uniformer/kinetics400", a file, or the config itself.
      labels: class names of a PyTorch checkpoint, in the order of its outputs, or a
        file of them; without, classes are numbers.

    Returns:
      A `stjax.prediction.Predictor`, from frames to frames, or a
      `stjax.recognition.Recogniser`, from clips to probabilities of classes.

    Raises:
      UserError: nothing there, or it cannot be used; in one line.
    """
    place = locate(path_or_name)
    if place.suffix == ".npz":
        given = {"step": step, "config": config, "labels": labels}
        _refuse(place, "an exported program", **given)
        from stjax.export.artefact import read_program

        return read_program(place)
    own_code = not str(path_or_name).startswith(hub.SCHEME)
    run = _open(place, step, config, labels, own_code)
    where = str(path_or_name)
    source = f"step {run.step} of {where}" if run.step else where
    if isinstance(run.spec, LabelSpec):
        # Clips of another kind were generated: there are no such videos.
        of_videos = len(run.spec.channels) == 3
        views = evaluation_views(run.config.data.to_dict()) if of_videos else None
        return Recogniser(
            run.model, run.variables, run.spec, source=source, views=views, run=run
        )
    nan = run.config.data.nan
    return Predictor(
        run.model, run.variables, run.spec, source=source, nan=nan, run=run
    )


def locate(path_or_name: str) -> epath.Path:
    """Where the files of a model are; those of the Hub are downloaded.

    Raises:
      UserError: there is nothing of that path or name.
    """
    name = str(path_or_name)
    if name.startswith(hub.SCHEME):
        return hub.download(name)
    place = epath.Path(name)
    if place.exists():
        if (
            place.name == "model.safetensors"
            and (place.parent / "config.json").exists()
        ):
            return place.parent
        return place
    if "/" in name or place.suffix in (*WEIGHTS, ".npz"):
        raise UserError(f"there is no {name}; check the path")
    try:
        return epath.Path(zoo.folder(name))
    except UserError as error:
        raise UserError(f"there is no file or folder {name!r}, and {error}") from None


def _open(place, step, config, labels, own_code) -> Run:
    from stjax.export import folder

    if place.suffix in WEIGHTS:
        _refuse(place, "a checkpoint of PyTorch", step=step)
        return _converted(place, config, labels)
    _refuse(place, "no file of PyTorch", config=config, labels=labels)
    if not place.is_dir():
        raise UserError(
            f"{place} is no model; give a workdir, an exported folder, an .npz program"
            f" or a checkpoint ({' '.join(WEIGHTS)})"
        )
    if folder.is_folder(place):
        _refuse(place, "an exported folder, with one step", step=step)
        return folder.read_folder(place, own_code=own_code)
    return load_run(place, step)


def _converted(place: epath.Path, config, labels) -> Run:
    """A checkpoint of the PyTorch original as a run of a config."""
    from stjax import convert
    from stjax.aot.specs import spec_of
    from stjax.config import load_config
    from stjax.convert.labels import read_labels
    from stjax.models.registry import create_model
    from stjax.training.state import build_model

    if config is None:
        raise UserError(
            f"{place} holds weights alone; say what they are of, for example with"
            " config='uniformer/kinetics400' (stjax models NAME lists configs)"
        )
    state = convert.read_file(place)
    config = load_config(config) if isinstance(config, str) else config
    config = config.copy_and_resolve_references()
    labelled = config.data.source == "labelled_videos"
    if labels is not None and not labelled:
        raise UserError("labels are for recognisers; this config predicts frames")
    if isinstance(labels, str | Path):
        labels = read_labels(labels)
    if labelled:
        count = len(labels) if labels else config.model.get("num_classes")
        count = count or convert.class_count(create_model(config.model.name), state)
        with config.unlocked():
            config.model.num_classes = count
    spec = spec_of(config, train=False)
    if labels is not None:
        spec = dataclasses.replace(spec, classes=tuple(labels))
    model = build_model(config, spec)
    variables = convert.from_torch(model, state)
    return Run(place, config, spec, model, variables, 0)


def _refuse(place: epath.Path, what: str, **given) -> None:
    """Arguments that mean nothing for what is loaded."""
    for name, value in given.items():
        if value is not None:
            raise UserError(f"{place} is {what}; leave out {name}={value!r}")


def evaluation_views(data: dict) -> Views:
    """How a run's test videos were seen, from the ``data`` section of its config."""
    fields = inspect.signature(LabelledVideos).parameters

    def value(field: str):
        given = data.get(field)
        return fields[field].default if given is None else given

    sampling = Sampling(*map(value, ("sampling", "t_in", "frame_step", "fps")))
    wanted = inspect.signature(make_views).parameters.keys() & fields.keys()
    chosen = {name: value(name) for name in wanted - {"sampling"}}
    reverse = value("reverse_channels")
    return make_views(False, sampling, reverse=reverse, **chosen)
