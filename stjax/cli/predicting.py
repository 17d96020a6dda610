"""``stjax predict``: what follows a clip, or what it shows."""

import json

import numpy as np
from etils import epath

from stjax import gridfiles, media
from stjax.cli.running import checkpoint_step
from stjax.errors import UserError

_SHOWN = 20  # stretches of a long video that are printed


def predict(
    *,
    workdir: str,
    input: str,
    output: str | None = None,
    frames: int | None = None,
    step: str = "best",
    variable: str | None = None,
    top: int = 5,
    sliding: bool = False,
    window: float | None = None,
    stride: float | None = None,
    batch: int | None = None,
    dtype: str | None = None,
) -> None:
    """Predicts the next frames of a clip; or, of a recogniser, what the clip shows.

    A recogniser prints the classes of a video or a folder of frames, seen as the test
    videos were; with --sliding those of every window of a long one, and writes
    timeline.png, .csv and .json.

    Of a NetCDF or Zarr file the last frames are the input; writes prediction.nc or
    .zarr. Of other clips the first frames are the input, those that follow, if any, the
    truth to compare with; writes prediction.npy, .gif and .png.

    Args:
      workdir: of a training, or any model that stjax.load takes.
      input: .nc, .zarr, .npy or .npz [T, H, W, C] or [T, H, W], .gif or a video (it is
        cropped and resized to the frames of the training).
      output: folder (default: WORKDIR/pictures/NAME of the clip; NAME without a
        workdir); of a recogniser without --sliding a .json.
      frames: how many to predict (default: as in training).
      step: of a workdir: best (the default), last or a number.
      variable: of NetCDF or Zarr: other names, with commas between.
      top: how many classes are shown.
      sliding: recognise every window of a long video.
      window: seconds (frames of a folder); default: as in training.
      stride: from a window to the next; default: half a window.
      batch: windows at once.
      dtype: float32 or bfloat16 (default: as in training).
    """
    from stjax.loading import load
    from stjax.recognition import Recogniser

    _check(input, sliding, window, stride, top)
    model = load(workdir, None if step == "best" else checkpoint_step(step))
    model = model.astype(dtype) if dtype else model
    if sliding and not isinstance(model, Recogniser):
        raise UserError("--sliding is for recognisers; this model predicts frames")
    if sliding:
        _slide(model, workdir, input, output, top, window, stride, batch)
    elif isinstance(model, Recogniser):
        _recognise(model, input, output, top)
    elif gridfiles.is_grid(input):
        _predict_grid(model, workdir, input, output, frames, variable)
    else:
        _predict_clip(model, workdir, input, output, frames)


def _check(input, sliding, window, stride, top) -> None:
    """What can be said before the seconds that loading a model takes."""
    if not gridfiles.is_grid(input) and not epath.Path(input).exists():
        raise UserError(f"{input}: no such file; check the path")
    if top < 1:
        raise UserError(f"--top={top}; it has to be at least 1")
    if not sliding and (window, stride) != (None, None):
        raise UserError("--window and --stride go with --sliding; add it")


def _recognise(recogniser, input, output, top) -> None:
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


def _slide(recogniser, workdir, input, output, top, window, stride, batch) -> None:
    from stjax import viz

    found = recogniser.slide(input, window, stride, batch)
    print(f"{recogniser.source}: {input}, {len(found.times)} windows")
    unit = "s" if found.unit == "s" else " frames"
    segments = found.segments()
    for begin, end, name, probability in segments[:_SHOWN]:
        print(f"  {begin:8.2f} to {end:8.2f}{unit}  {name}  {probability:.1%}")
    if len(segments) > _SHOWN:
        print(f"  and {len(segments) - _SHOWN} more in timeline.json")
    folder = epath.Path(output or _default(workdir, input))
    folder.mkdir(parents=True, exist_ok=True)
    media.write_png(folder / "timeline.png", viz.timeline(found, top))
    (folder / "timeline.csv").write_text(found.to_csv())
    (folder / "timeline.json").write_text(json.dumps(found.to_dict()))
    print(f"wrote {folder / 'timeline.png'}, timeline.csv and timeline.json")


def _predict_grid(predictor, workdir, input, output, frames, variable) -> None:
    data = predictor.run.config.data if predictor.run else {}
    target = gridfiles.predict_grid(
        predictor,
        input,
        output or _default(workdir, input),
        variables=variable.split(",") if variable else None,
        frames=frames,
        step=data.get("frame_step") or data.get("hours") or 1,
    )
    print(f"wrote {target}: what follows the last frame of {input}")


def _predict_clip(predictor, workdir, input, output, frames) -> None:
    media.check_readable(input)
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
    """Where results go: into a workdir, or else beside the user."""
    name = epath.Path(input).stem
    own = (epath.Path(workdir) / "checkpoints").exists()
    return str(epath.Path(workdir) / "pictures" / name) if own else name


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
