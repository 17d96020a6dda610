"""Clips from files and pictures to files: .npy, .npz, .gif, .png and video."""

import dataclasses
import io

import numpy as np
from etils import epath

from stjax.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
READABLE = (".npy", ".npz", ".gif", *VIDEO_SUFFIXES)


@dataclasses.dataclass(frozen=True)
class Clip:
    """Frames that came from a file.

    Attributes:
      frames: [T, H, W, 3] uint8 of a video or gif; the stored array otherwise.
      fps: frames per second where the file says so.
      is_video: the frames are pictures that may be resized and made grey, not
        values that have to be taken as they are.
    """

    frames: np.ndarray
    fps: float | None
    is_video: bool


def read_clip(path: str, limit: int | None = None) -> Clip:
    """Reads a clip from a file, local or remote (anything epath opens).

    Args:
      path: .npy or .npz (an array of frames; an .npz holds one array, or ``input``
        with or without ``target``, which then follows it in time), .gif or a video.
      limit: at most this many frames of a gif or video are decoded.

    Raises:
      UserError: no such file, an unknown format, empty, truncated or corrupt.
    """
    check_readable(path)
    file = epath.Path(path)
    suffix, data = file.suffix.lower(), file.read_bytes()
    if not data:
        raise UserError(f"{path}: the file is empty")
    if suffix in (".npy", ".npz"):
        frames = _read_npy(path, data) if suffix == ".npy" else _read_npz(path, data)
        clip = Clip(frames, None, False)
    elif suffix == ".gif":
        clip = _read_gif(path, data, limit)
    else:
        clip = _read_video(path, data, limit)
    if clip.frames.size == 0:
        raise UserError(f"{path}: no frames in it (shape {clip.frames.shape})")
    return clip


def check_readable(path: str) -> None:
    """Raises a `UserError` unless the path is a file of a known format."""
    file = epath.Path(path)
    suffix = file.suffix.lower()
    if suffix not in READABLE:
        raise UserError(
            f"{path}: cannot read {suffix or 'a file without suffix'};"
            f" expected {', '.join(READABLE)}"
        )
    if not file.exists():
        raise UserError(f"{path}: no such file")
    if file.is_dir():
        raise UserError(f"{path}: is a folder, expected a file")


def _corrupt(path: str, why: object) -> UserError:
    line = " ".join(str(why).split())
    return UserError(f"{path}: truncated or corrupt ({line}); write the file again")


def _checked(path: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "buif":
        raise UserError(f"{path}: holds {array.dtype}, expected an array of numbers")
    return array


def _read_npy(path: str, data: bytes) -> np.ndarray:
    try:
        return _checked(path, np.load(io.BytesIO(data), allow_pickle=False))
    except UserError:
        raise
    except Exception as error:  # numpy raises ValueError, EOFError, SyntaxError ...
        raise _corrupt(path, error) from None


def _read_npz(path: str, data: bytes) -> np.ndarray:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:
        raise _corrupt(path, error) from None
    if "input" in arrays:
        frames, target = arrays["input"], arrays.get("target")
        if target is None:
            return _checked(path, frames)
        if target.ndim != frames.ndim or target.shape[-3:] != frames.shape[-3:]:
            raise UserError(
                f"{path}: 'target' {target.shape} does not continue 'input'"
                f" {frames.shape}; store one array of frames"
            )
        time = {3: 0, 4: 0, 5: 1}.get(frames.ndim, 0)
        return _checked(path, np.concatenate([frames, target], time))
    if len(arrays) != 1:
        raise UserError(
            f"{path}: holds {sorted(arrays)}, expected one array or one called 'input'"
        )
    return _checked(path, next(iter(arrays.values())))


def _read_gif(path: str, data: bytes, limit: int | None) -> Clip:
    from PIL import Image, ImageSequence

    # Pillow shows what there is of a cut file; the format ends with a semicolon.
    if not data.rstrip(b"\0").endswith(b";"):
        raise _corrupt(path, "no end mark")
    frames: list[np.ndarray] = []
    try:
        with Image.open(io.BytesIO(data), formats=["GIF"]) as image:
            duration = image.info.get("duration") or 0
            for frame in ImageSequence.Iterator(image):
                if len(frames) == limit:
                    break
                frames.append(np.asarray(frame.convert("RGB")))
    except Exception as error:
        raise _corrupt(path, error) from None
    return Clip(_stack(frames), 1000 / duration if duration else None, True)


def _read_video(path: str, data: bytes, limit: int | None) -> Clip:
    import av

    frames: list[np.ndarray] = []
    try:
        with av.open(io.BytesIO(data)) as container:
            if not container.streams.video:
                raise UserError(f"{path}: no video stream in it")
            stream = container.streams.video[0]
            fps = float(stream.average_rate) if stream.average_rate else None
            for frame in container.decode(stream):
                if len(frames) == limit:
                    break
                frames.append(frame.to_ndarray(format="rgb24"))
            declared = stream.frames
    except av.FFmpegError as error:
        raise _corrupt(path, error) from None
    # A cut file decodes without complaint up to the cut.
    if len(frames) < min(declared, declared if limit is None else limit):
        raise _corrupt(path, f"{len(frames)} of {declared} frames")
    return Clip(_stack(frames), fps, True)


def _stack(frames: list[np.ndarray]) -> np.ndarray:
    return np.stack(frames) if frames else np.zeros((0, 0, 0, 3), np.uint8)


def fit_video(
    frames: np.ndarray, height: int, width: int, channels: int
) -> tuple[np.ndarray, str]:
    """Makes the pictures of a video into what a model was trained on.

    The largest centred part of the right aspect ratio is resized (antialiased);
    for one channel it becomes grey (ITU-R 601 luma).

    Args:
      frames: [T, H, W, 3] uint8.
      height: of the result.
      width: of the result.
      channels: 1 or 3.

    Returns:
      [T, height, width, channels] uint8, and what was done in words (may be empty).

    Raises:
      UserError: the model has another number of channels.
    """
    from PIL import Image

    if channels not in (1, 3):
        raise UserError(
            f"a video has 3 channels or 1 in grey, the model takes {channels};"
            " give the values as .npy"
        )
    rows, columns = frames.shape[1:3]
    part = min(rows / height, columns / width)
    h, w = round(part * height), round(part * width)
    top, left = (rows - h) // 2, (columns - w) // 2
    cropped = frames[:, top : top + h, left : left + w]
    done = []
    if (h, w) != (rows, columns):
        done.append(f"cropped to the centre {w}x{h}")
    if (h, w) != (height, width):
        done.append(f"resized to {width}x{height}")
    images = [Image.fromarray(frame) for frame in cropped]
    if channels == 1:
        if (frames != frames[..., :1]).any():
            done.append("made grey")
        images = [image.convert("L") for image in images]
    images = [image.resize((width, height), Image.Resampling.BOX) for image in images]
    result = np.stack([np.asarray(image) for image in images])
    return result.reshape(len(frames), height, width, channels), ", ".join(done)


def write_npy(path: str, array: np.ndarray) -> None:
    """Writes an array as .npy."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    epath.Path(path).write_bytes(buffer.getvalue())


def write_png(path: str, image: np.ndarray) -> None:
    """Writes a uint8 picture, [H, W, 3] or [H, W], as .png."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png", optimize=True)
    epath.Path(path).write_bytes(buffer.getvalue())


def write_gif(path: str, frames: np.ndarray, fps: float = 5.0) -> None:
    """Writes uint8 frames [T, H, W, 3] as an endless .gif that rests on the last."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    durations = [round(1000 / fps)] * len(images)
    durations[-1] += 800
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        "gif",
        save_all=True,
        append_images=images[1:],
        duration=durations,
        loop=0,
    )
    epath.Path(path).write_bytes(buffer.getvalue())


def write_mp4(path: str, frames: np.ndarray, fps: float = 5.0) -> None:
    """Writes uint8 frames [T, H, W, 3] as H.264 .mp4 (an odd side loses a pixel)."""
    import av

    height, width = (side - side % 2 for side in frames.shape[1:3])
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=round(fps))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for frame in frames:
            image = np.ascontiguousarray(frame[:height, :width])
            packets = stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
            container.mux(packets)
        container.mux(stream.encode())
    epath.Path(path).write_bytes(buffer.getvalue())
