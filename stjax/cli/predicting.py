"""``stjax predict``: what follows a clip, or what it shows."""

import json

import numpy as np
from etils import epath

from stjax import gridfiles, media
from stjax.errors import UserError


def predict(
    *,
    workdir: str,
    input: str,
    output: str | None = None,
    frames: int | None = None,
    step: int | None = None,
    variable: str | None = None,
    top: int = 5,
) -> None:
    """Predicts the next frames of a clip; or, of a recogniser, what the clip shows.

    A recogniser prints the most probable classes of a video or a folder of frames,
    seen as the test videos of its training were.

    Of a NetCDF or Zarr file the last frames are the model's input, and the forecast is
    written as prediction.nc or .zarr, with coordinates, lead_time and units. Of any
    other clip the first frames are the input; those that follow, if any, are the truth
    that the prediction is compared with. Writes prediction.npy, prediction.gif and the
    picture prediction.png.

    Args:
      workdir: the folder of a training.
      input: the clip: .nc, .zarr, .npy or .npz [T, H, W, C] or [T, H, W], .gif or a
        video (which is cropped and resized to the frames that the model was trained
        on).
      output: folder for the results (default: WORKDIR/pictures/NAME of the clip); of a
        recogniser a .json for all probabilities (default: none).
      frames: how many to predict (default: as in training).
      step: the checkpoint (default: the best).
      variable: of a NetCDF or Zarr file that has other names than the training data:
        one, or several with commas between.
      top: how many classes to print.
    """
    from stjax.data.base import LabelSpec
    from stjax.loading import load
    from stjax.training.workdir import description

    if isinstance(description(workdir)[1], LabelSpec):
        _recognise(workdir, input, output, step, top)
        return

    if gridfiles.is_grid(input):
        _predict_grid(workdir, input, output, frames, step, variable)
        return
    media.check_readable(input)  # Before the seconds that loading a model takes.
    predictor = load(workdir, step)
    t_in, t_out = predictor.spec.t_in, frames or predictor.spec.t_out
    values = _read(input, predictor, t_in + t_out)
    if values.shape[1] < t_in:
        raise UserError(
            f"{input}: has {values.shape[1]} frames, the model needs {t_in} as input"
        )
    past, future = values[:, :t_in], values[:, t_in : t_in + t_out]
    prediction = predictor(past, frames)
    future = future[..., predictor.spec.target_index]
    _write(predictor, past, prediction, future, output or _default(workdir, input))


def _recognise(workdir, input, output, step, top) -> None:
    from stjax.loading import load

    if not epath.Path(input).exists():
        raise UserError(f"there is no video {input!r}; check the path")
    if top < 1:
        raise UserError(f"--top={top}; it has to be at least 1")
    recogniser = load(workdir, step)
    found = recogniser.video(input)
    best = recogniser.top_k(found, top)
    width = max(len(name) for name, _ in best)
    print(f"{recogniser.source}: {input}")
    for name, probability in best:
        print(f"  {name:<{width}}  {probability:6.1%}")
    if output:
        every = dict(recogniser.top_k(found, len(found)))
        epath.Path(output).write_text(json.dumps(every, indent=2))
        print(f"wrote {output}: the probabilities of all {len(found)} classes")


def _predict_grid(workdir, input, output, frames, step, variable) -> None:
    from stjax.loading import load
    from stjax.training.workdir import description

    data = description(workdir)[0].data
    target = gridfiles.predict_grid(
        load(workdir, step),
        input,
        output or _default(workdir, input),
        variables=variable.split(",") if variable else None,
        frames=frames,
        step=data.get("frame_step") or data.get("hours") or 1,
    )
    print(f"wrote {target}: what follows the last frame of {input}")


def _read(input: str, predictor, frames: int) -> np.ndarray:
    """The clip of a file as [B, T, H, W, C]; a video made to fit, which is said."""
    _, height, width, channels = predictor.spec.input_shape
    clip = media.read_clip(input, limit=frames)
    if not clip.is_video:
        return _five_axes(clip.frames, channels)
    if not predictor.is_pixels:
        raise UserError(
            f"{input}: a video, but the model takes {predictor.spec.units or 'raw'}"
            " values; give them as .npy"
        )
    values, done = media.fit_video(clip.frames, height, width, channels)
    if done:
        print(f"{input}: {done}, because the model was trained on such frames")
    return values[None]


def _five_axes(values: np.ndarray, channels: int) -> np.ndarray:
    if values.ndim == 3 and channels == 1:
        return values[None, ..., None]
    if values.ndim not in (4, 5):
        raise UserError(
            f"clip of shape {values.shape}: expected [T, H, W, {channels}]"
            + (" or [T, H, W]" if channels == 1 else "")
        )
    return values if values.ndim == 5 else values[None]


def _default(workdir: str, input: str) -> str:
    return str(epath.Path(workdir) / "pictures" / epath.Path(input).stem)


def _write(predictor, past, prediction, future, output: str) -> None:
    from stjax import viz

    folder = epath.Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    media.write_npy(folder / "prediction.npy", prediction)
    past = past[..., predictor.spec.target_index]
    truth = future[0] if future.shape[1] else None
    options, white = {"cmap": "viridis"}, 1.0
    if predictor.is_pixels:
        white = 255.0 if past.dtype.kind in "ui" else 1.0
        options = {"value_range": (0.0, white)}
    picture = viz.strip(past[0], prediction[0], truth, **options)
    media.write_png(folder / "prediction.png", picture)
    viz.save_gif(folder / "prediction.gif", past[0], prediction[0], truth, **options)
    shape = "x".join(map(str, prediction.shape))
    print(f"{predictor.source}: predicted {prediction.shape[1]} frames")
    for name, what in (
        ("prediction.npy", f"{shape} float32 (B, T, H, W, C)"),
        ("prediction.gif", "animation"),
        ("prediction.png", "picture"),
    ):
        print(f"wrote {folder / name}: {what}")
    if truth is not None:
        known = future.shape[1]
        error = np.square((prediction[:, :known] - np.float32(future)) / white)
        mse = error[np.isfinite(error)].mean()
        unit = " for values in 0..1" if predictor.is_pixels else ""
        print(f"MSE over the {known} frames with truth: {mse:.6g} a pixel{unit}")
