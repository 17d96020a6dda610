"""Writes the motion clips as video files, in folders that training reads.

    python -m stjax.data.motion_files --output=DIR

writes ``DIR/{train,validation,test}/CLASS/*.mp4`` in about a minute, from the real
footage that ships or from ``--videos=FOLDER``.
"""

import dataclasses
import itertools
import sys
from pathlib import Path

import av
import numpy as np
from absl import app, flags
from PIL import Image

from stjax.data.motion_clips import (
    CLASSES,
    Layout,
    motion_clip,
    split_digits,
    split_footage,
)
from stjax.data.video import VIDEOS
from stjax.data.windows import SPLITS
from stjax.errors import UserError

SAMPLE_VIDEOS = Path(__file__).with_name("sample_videos")
_FPS = 8
_MOST_FRAMES = 500  # of one video of footage, to bound the memory
# With it, the first video that a process writes differs in some bits from later ones.
_NO_LOOKAHEAD = {"x264-params": "rc-lookahead=0:mbtree=0:weightp=0:bframes=0"}
# ITU-R BT.601, values in 16 to 235 (luma) and 16 to 240 (chroma).
_LUMA = np.array([65.481, 128.553, 24.966]) / 255
_CHROMA = np.array([[-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255


@dataclasses.dataclass(frozen=True)
class Counts:
    """Clips of each split; every fourth one is of the same class."""

    train: int = 3200
    validation: int = 400
    test: int = 800


def read_footage(folder: str | Path, side: int) -> dict[str, np.ndarray]:
    """All videos of a folder, their shorter side brought to ``side``.

    Returns:
      file name -> [T, H, W, 3] uint8, at most the first 500 frames.

    Raises:
      UserError: there is no video, or one cannot be read.
    """
    folder = Path(folder).expanduser()
    files = folder.iterdir() if folder.is_dir() else []
    files = sorted(f for f in files if f.suffix.lower() in VIDEOS)
    if not files:
        raise UserError(f"{folder}: no videos there; give a folder with some")
    found = {}
    for file in files:
        try:
            with av.open(str(file)) as container:
                frames = itertools.islice(container.decode(video=0), _MOST_FRAMES)
                found[file.name] = np.stack([_resize(f, side) for f in frames])
        except (OSError, ValueError, IndexError, av.FFmpegError) as error:
            raise UserError(f"{file}: cannot be read as a video ({error})") from None
    return found


def _resize(frame: av.VideoFrame, side: int) -> np.ndarray:
    ratio = side / min(frame.width, frame.height)
    size = round(frame.width * ratio), round(frame.height * ratio)
    return np.asarray(frame.to_image().resize(size, Image.Resampling.BILINEAR))


def _planes(frame: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 as the planes of yuv420p, [3/2 H, W].

    By hand, because libswscale's last bit depends on what is next to the frame.
    """
    luma = frame @ _LUMA + 16
    h, w = luma.shape
    chroma = frame.reshape(h // 2, 2, w // 2, 2, 3).mean((1, 3)) @ _CHROMA.T + 128
    planes = [luma.ravel(), chroma[..., 0].ravel(), chroma[..., 1].ravel()]
    return np.rint(np.concatenate(planes)).astype(np.uint8).reshape(-1, w)


def write_video(path: Path, clip: np.ndarray) -> None:
    """[T, H, W, 3] uint8 as H.264, sides even; the same bytes at every call."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        options = {"crf": "14", "preset": "fast", "threads": "1"} | _NO_LOOKAHEAD
        stream = container.add_stream("libx264", rate=_FPS, options=options)
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in clip:
            planes = av.VideoFrame.from_ndarray(_planes(frame), format="yuv420p")
            container.mux(stream.encode(planes))
        container.mux(stream.encode(None))


def write_motion_clips(
    output: str | Path,
    *,
    videos: str | Path | None = None,
    counts: Counts | None = None,
    layout: Layout | None = None,
    seed: int = 0,
) -> Path:
    """Writes the data set, split by split and class by class.

    Read it with the source ``labelled_videos`` and ``format="folders"``.

    Args:
      output: the new folder.
      videos: folder of footage; None for the two videos that ship.
      counts: clips of each split.
      layout: sizes of the clips.
      seed: the files are a function of it and of the footage alone.

    Returns:
      The folder.

    Raises:
      UserError: it has files already, or the footage does not suffice.
    """
    output = Path(output).expanduser()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists already; remove it or choose another folder")
    layout, counts = layout or Layout(), counts or Counts()
    footage = read_footage(videos or SAMPLE_VIDEOS, 3 * layout.size)
    parts = {split: split_footage(footage, split, layout) for split in SPLITS}
    for number, split in enumerate(SPLITS):
        digits = split_digits(split, layout)
        for name in CLASSES:
            (output / split / name).mkdir(parents=True)
        for index in range(getattr(counts, split)):
            name = CLASSES[index % len(CLASSES)]
            rng = np.random.default_rng([seed, number, index])
            clip = motion_clip(rng, name, parts[split], digits, layout)
            write_video(output / split / name / f"{index:05d}.mp4", clip)
    return output


def _define_flags() -> None:
    flags.DEFINE_string("output", None, "Folder that gets the clips.", required=True)
    flags.DEFINE_string("videos", None, "Folder of footage; by default what ships.")
    flags.DEFINE_integer("seed", 0, "The clips are a function of it.")
    for field in dataclasses.fields(Counts):
        flags.DEFINE_integer(field.name, field.default, f"Clips for {field.name}.")
    for name in ("frames", "size", "digit_size"):
        flags.DEFINE_integer(name, getattr(Layout, name), "See motion_clips.Layout.")
    flags.DEFINE_list("digits", ["0", "1"], "Kinds of digit, two or more of 0 to 9.")


def main(argv: list[str]) -> None:
    """Runs from the command line."""
    values = flags.FLAGS
    try:
        if len(argv) > 1:
            raise UserError(f"unexpected argument {argv[1]!r}")
        if not all(text.isdecimal() for text in values.digits):
            raise UserError(f"--digits={','.join(values.digits)}: write numbers")
        digits = tuple(map(int, values.digits))
        folder = write_motion_clips(
            values.output,
            videos=values.videos,
            counts=Counts(values.train, values.validation, values.test),
            layout=Layout(values.frames, values.size, values.digit_size, digits),
            seed=values.seed,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"wrote {folder}")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
