"""Own data without code: arrays, videos, folders of images, NetCDF, Zarr."""

import functools
from collections.abc import Sequence

import numpy as np

from stjax.data.base import ClipSpec
from stjax.data.finding import find_files, make_reader
from stjax.data.frames import FrameProcess
from stjax.data.grids import GridReader
from stjax.data.reading import Skips, default_channels
from stjax.data.statistics import climatology, statistics
from stjax.data.windows import (
    SPLITS,
    Segment,
    Windows,
    split_by_file,
    split_by_time,
)
from stjax.errors import UserError, unknown


class Files:
    """Own data: .npy/.npz, videos, folders of images, NetCDF or Zarr.

    ``path`` is one file or a folder of them. Each video, image folder, grid file and
    array (each of the N of an [N, T, H, W, C] array) is one sequence. A clip is a
    window of ``t_in + t_out`` frames of one sequence, within one split.

    Frames keep their size unless ``size`` is given. uint8 stays uint8 and is divided
    by 255; anything else becomes float32, is normalised by each channel's mean and
    standard deviation over the training split (of at most 4096 evenly spaced
    frames), and may hold NaN where values are missing.

    Args:
      split: ``"train"``, ``"validation"`` or ``"test"``.
      path: a file, or a folder of files of one format.
      format: ``"array"``, ``"video"``, ``"images"`` or ``"grid"``; None: by name.
      variable: NetCDF/Zarr variables (one name or several, also as ``"u,v"``), or the
        array of an .npz; None: the only one.
      levels: which levels of NetCDF/Zarr variables that have some; None for all.
      layout: axes of an array as letters of ``"NTHWC"``, such as ``"NTCHW"``; None:
        from its number of axes (4 axes: [T,H,W,C] if the last is at most 4 long,
        otherwise [N,T,H,W]).
      t_in: input frames.
      t_out: target frames.
      stride: frames between the starts of two windows.
      frame_step: every how many frames one is taken.
      split_by: ``"time"``: the beginning of every sequence trains and its end tests;
        ``"file"``: the first sequences train and the last test; None: by time if
        every sequence is long enough for that (or there are fewer than 3), otherwise
        by file.
      fractions: of train, validation and test.
      channels: ``"grey"`` or ``"rgb"``; None: as stored.
      crop: (top, left, height, width) to cut out of every frame, before ``size``.
      size: (height, width) to bring the frames to.
      fit: ``"stretch"``, ``"crop"`` or ``"pad"``, see `stjax.data.frames.FrameProcess`.
      value_range: (low, high) that becomes [0, 1], in place of the statistics.
      target_variables: NetCDF/Zarr variables to predict; the others are only inputs.
      target_channels: names or numbers of channels to predict; None for all.
      metric_space: ``"model"`` or ``"raw"`` (None: raw for NetCDF and Zarr).
      skip_unreadable: leave out files that cannot be opened; ``skipped`` and a warning
        name them. (What fails later, in the middle of a file, is an error of that
        clip; see `data.bad` of `stjax.data.pipeline`.)

    Raises:
      UserError: for a path, variable, size or length that does not work out.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        path: str,
        format: str | None = None,
        variable: str | Sequence[str] | None = None,
        levels: Sequence[float] | None = None,
        layout: str | None = None,
        t_in: int = 10,
        t_out: int = 10,
        stride: int = 1,
        frame_step: int = 1,
        split_by: str | None = None,
        fractions: Sequence[float] = (0.8, 0.1, 0.1),
        channels: str | None = None,
        crop: Sequence[int] | None = None,
        size: Sequence[int] | None = None,
        fit: str = "stretch",
        value_range: Sequence[float] | None = None,
        target_variables: Sequence[str] | None = None,
        target_channels: Sequence[str | int] | None = None,
        metric_space: str | None = None,
        skip_unreadable: bool = False,
    ):
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        if min(t_in, t_out, stride, frame_step) < 1:
            raise UserError(
                f"data.t_in={t_in}, t_out={t_out}, stride={stride},"
                f" frame_step={frame_step}: each must be at least 1"
            )
        self._step, self._t_in, self._t_out = frame_step, t_in, t_out
        self._span = (t_in + t_out - 1) * frame_step + 1
        crop = _numbers("crop", crop, "top, left, height, width")
        size = _numbers("size", size, "height, width")
        self._process = FrameProcess(crop, channels, size, fit)
        self._skips = Skips(skip_unreadable)
        variables = _names(variable)
        kind, paths = find_files(path, format)
        self._reader = make_reader(kind, paths, self._skips, variables, layout, levels)
        if not self._reader.lengths:
            raise UserError(f"{path}: no readable file of format {kind!r}")
        segments = self._split(split, split_by, tuple(fractions))
        self._windows = Windows(segments[split], self._span, stride)
        self._training = segments["train"]
        self.spec = self._make_spec(
            segments["train"],
            value_range,
            self._targets(_names(target_variables), target_channels),
            metric_space or ("raw" if kind == "grid" else "model"),
        )
        self._skips.report()

    @property
    def skipped(self) -> list[str]:
        """Files that were left out because they could not be read."""
        return self._skips.names

    @property
    def latitude(self) -> np.ndarray | None:
        """Degrees of the rows [H] of a grid, as they are after crop and size."""
        rows = getattr(self._reader, "latitude", None)
        if rows is None:
            return None
        frame = np.broadcast_to(rows[:, None, None], (*self._reader.sizes[0], 1))
        rows = self._process(frame)[:, 0, 0]
        return rows if np.isfinite(rows).all() else None

    @functools.cached_property
    def climatology(self) -> np.ndarray:
        """Mean frame of the training split [1, H, W, C_out], in raw units."""
        mean = climatology(self._reader, self._training, self._process)
        return mean[..., list(self.spec.target_index)]

    def _split(self, split: str, by: str | None, fractions: tuple[float, ...]):
        if by not in (None, "time", "file"):
            raise unknown("data.split_by", by, ("time", "file"))
        lengths = self._reader.lengths
        used = [s for s, f in zip(SPLITS, fractions, strict=False) if f > 0]
        if by is None:
            parts = [s for u in used for s in split_by_time(lengths, fractions, u)]
            fit = all(s.end - s.begin >= self._span for s in parts)
            by = "time" if fit or len(lengths) < len(used) else "file"
        function = {"time": split_by_time, "file": split_by_file}[by]
        segments = {s: function(lengths, fractions, s) for s in SPLITS}
        segments[split] = self._long_enough(segments[split], split, by)
        return segments

    def _long_enough(self, segments: list[Segment], split: str, by: str):
        kept = []
        for s in segments:
            if s.end - s.begin >= self._span:
                kept.append(s)
                continue
            self._skips.add(
                self._reader.names[s.sequence],
                f"too short: {s.end - s.begin} of its"
                f" {self._reader.lengths[s.sequence]} frames are in split {split!r}"
                f" (data.split_by={by!r}), a clip needs {self._span}; lower t_in, t_out"
                " or frame_step",
                "cannot use",
            )
        if not kept:
            raise UserError(
                f"split {split!r} is empty: {len(self._reader.lengths)} sequences split"
                f" by {by}; change data.fractions or data.split_by"
            )
        return kept

    def _targets(self, variables, channels) -> tuple[int, ...] | None:
        names = self._frame_channels()
        if variables is not None:
            if not isinstance(self._reader, GridReader):
                raise UserError(
                    "data.target_variables needs NetCDF or Zarr; use target_channels"
                )
            of = [self._reader.variable_of(k) for k in range(len(names))]
            for name in variables:
                if name not in of:
                    raise unknown("data.target_variables", name, set(of))
            return tuple(k for k, name in enumerate(of) if name in variables)
        if channels is None:
            return None
        for c in channels:
            if c not in names and c not in range(len(names)):
                raise unknown("data.target_channels", str(c), names)
        return tuple(c if isinstance(c, int) else names.index(c) for c in channels)

    def _frame_channels(self) -> tuple[str, ...]:
        if self._process.channels is None:
            return self._reader.channels
        return default_channels(1 if self._process.channels == "grey" else 3)

    def _make_spec(self, training, value_range, targets, metric_space) -> ClipSpec:
        size = self._process.size
        if size is None:
            size = self._common_size()
        channels = self._frame_channels()
        if value_range is not None:
            offset = (float(value_range[0]),)
            scale = (float(value_range[1]) - offset[0],)
        elif self._reader.dtype == "uint8":
            offset, scale = (0.0,), (255.0,)
        else:
            offset, scale = statistics(self._reader, training, self._process)
        return ClipSpec(
            t_in=self._t_in,
            t_out=self._t_out,
            height=int(size[0]),
            width=int(size[1]),
            channels=channels,
            target_channels=targets,
            dtype=self._reader.dtype,
            offset=offset,
            scale=scale,
            units=self._reader.units,
            metric_space=metric_space,
        )

    def _common_size(self) -> tuple[int, int]:
        if self._process.crop is not None:
            return self._process.crop[2:]
        first = self._reader.sizes[0]
        for name, size in zip(self._reader.names, self._reader.sizes, strict=True):
            if size != first:
                raise UserError(
                    f"mixed frame sizes: {self._reader.names[0]} is"
                    f" {first[0]}x{first[1]}, {name} is {size[0]}x{size[1]}; set"
                    " data.size=(height, width)"
                )
        return first

    def __len__(self) -> int:
        return len(self._windows)

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Window ``index``; ``rng`` is not used."""
        del rng
        sequence, start = self._windows[index]
        frames = range(start, start + self._span, self._step)
        clip = self._reader.read(sequence, frames, self._process)
        target = clip[self._t_in :]
        if self.spec.target_channels is not None:
            target = target[..., list(self.spec.target_channels)]
        return {"input": clip[: self._t_in], "target": target}


def _names(names: str | Sequence[str] | None) -> list[str] | None:
    if names is None:
        return None
    return names.split(",") if isinstance(names, str) else list(names)


def _numbers(field: str, values: Sequence[int] | None, meaning: str):
    if values is None:
        return None
    values = tuple(values) if isinstance(values, Sequence) else (values,)
    if len(values) != len(meaning.split(", ")) or min(values) < 0:
        raise UserError(f"data.{field}={values}: expected ({meaning})")
    return values
