"""WeatherBench: ERA5 on a coarse grid, one folder of NetCDF files for each variable."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stjax.data.base import ClipSpec
from stjax.data.grids import GridReader, import_xarray, open_grid
from stjax.data.reading import Process, Skips, existing, natural
from stjax.data.statistics import climatology, statistics
from stjax.data.windows import SPLITS, Segment, Windows
from stjax.errors import UserError, unknown

# Variable -> folder and beginning of the file names.
FOLDERS = {
    "q": "specific_humidity",
    "r": "relative_humidity",
    "t": "temperature",
    "t2m": "2m_temperature",
    "tcc": "total_cloud_cover",
    "tp": "total_precipitation",
    "u": "u_component_of_wind",
    "u10": "10m_u_component_of_wind",
    "v": "v_component_of_wind",
    "v10": "10m_v_component_of_wind",
    "z": "geopotential",
}


class WeatherBench:
    """WeatherBench (Rasp et al. 2020): ERA5 as NetCDF, 12 hours in, 12 out.

    Files ``<path>/<folder>/<folder>*.nc``, such as
    ``2m_temperature/2m_temperature_1979_5.625deg.nc``; 5.625 degrees are 32x64 cells.
    Years: 2010-2015 train, 2016 validate, 2017-2018 test (the several-variable runs
    train on 1979-2015). Every hour begins a clip, except that, as in OpenSTL, the last
    hour of a split and the last clip are left out. No clip crosses a gap in time.

    Each channel is normalised by its mean and deviation over the training years; the
    published numbers normalise each split with its own (``normalise="per_split"``).
    Metrics compare raw units.

    Args:
      split: ``"train"``, ``"validation"`` or ``"test"``.
      path: the folder with one folder for each variable.
      variables: such as ``["u10", "v10"]``; each is a channel, or one for each of
        its levels.
      levels: pressure levels (hPa) of the variables that have any; None: the last
        level of the file, as OpenSTL's humidity.
      t_in: input frames.
      t_out: target frames.
      hours: every how many hours a frame is taken.
      offsets: frame numbers of the ``t_in + t_out`` frames relative to each other,
        in steps of ``hours``; None: consecutive. OpenSTL's several-variable runs
        are hours=6 with -17, -11, -5, 0, 1, 7, 13, 19: up to 36 hours apart.
      train_years: first and last, both included.
      validation_years: the same.
      test_years: the same.
      normalise: ``"train"`` or ``"per_split"``.
      target_variables: those to predict; None for all.

    Raises:
      UserError: for unknown variables, missing files, levels or years.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        path: str,
        variables: Sequence[str] = ("t2m",),
        levels: Sequence[int] | None = None,
        t_in: int = 12,
        t_out: int = 12,
        hours: int = 1,
        offsets: Sequence[int] | None = None,
        train_years: Sequence[int] = (2010, 2015),
        validation_years: Sequence[int] = (2016, 2016),
        test_years: Sequence[int] = (2017, 2018),
        normalise: str = "train",
        target_variables: Sequence[str] | None = None,
    ):
        if normalise not in ("train", "per_split"):
            raise unknown("data.normalise", normalise, ("train", "per_split"))
        years = dict(
            zip(SPLITS, (train_years, validation_years, test_years), strict=True)
        )
        self._reader = YearReader(existing(path, "data.path"), variables, levels)
        self._offsets = _offsets(offsets, t_in + t_out)
        self._lay_windows(split, years[split], hours)
        self._train_years = years["train"]
        over = split if normalise == "per_split" else "train"
        training = self._reader.segments(years[over], over)
        offset, scale = statistics(self._reader, training, lambda frames: frames)
        self.spec = ClipSpec(
            t_in,
            t_out,
            *self._reader.size,
            channels=self._reader.channels,
            target_channels=self._reader.targets(target_variables),
            dtype="float32",
            offset=offset,
            scale=scale,
            units=self._reader.units,
            metric_space="raw",
        )

    def _lay_windows(self, split: str, years: Sequence[int], hours: int) -> None:
        span = self._offsets[-1] + 1
        segments = self._reader.segments(years, split)
        # OpenSTL's slice(None, -1, step), and a range that ends one early.
        segments[-1] = Segment(
            segments[-1].sequence, segments[-1].begin, segments[-1].end - 1
        )
        frames = Windows(
            [
                Segment(k, 0, -(-(s.end - s.begin) // hours))
                for k, s in enumerate(segments)
            ],
            span,
        )
        self._windows, self._segments, self._hours = frames, segments, hours
        self._length = len(frames) - 1
        if self._length < 1:
            raise UserError(
                f"{self._reader.path}: the {split} years {tuple(years)} have no clip of"
                f" {span} frames every {hours} h; check the files, data.t_in and"
                " data.t_out"
            )

    @property
    def latitude(self) -> np.ndarray | None:
        """Degrees of the rows [H]."""
        return self._reader.latitude

    @functools.cached_property
    def climatology(self) -> np.ndarray:
        """Mean frame of the training years [1, H, W, C_out], in raw units."""
        training = self._reader.segments(self._train_years, "train")
        mean = climatology(self._reader, training, lambda frames: frames)
        return mean[..., list(self.spec.target_index)]

    def __len__(self) -> int:
        return self._length

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        del rng
        segment, start = self._windows[index]
        begin = self._segments[segment].begin + start * self._hours
        span = range(begin, begin + self._offsets[-1] * self._hours + 1, self._hours)
        video = self._reader.read(0, span, lambda frames: frames)[self._offsets]
        t_in = self.spec.t_in
        target = video[t_in:]
        if self.spec.target_channels is not None:
            target = target[..., list(self.spec.target_channels)]
        return {"input": video[:t_in], "target": target}


def _offsets(offsets: Sequence[int] | None, n: int) -> list[int]:
    offsets = list(range(n)) if offsets is None else [o - offsets[0] for o in offsets]
    if len(offsets) != n or sorted(set(offsets)) != offsets:
        raise UserError(
            f"data.offsets: got {len(offsets)} numbers; expected t_in + t_out = {n},"
            " rising"
        )
    return offsets


class YearReader:
    """Variables in yearly files as one long sequence with its times."""

    def __init__(
        self, path: Path, variables: Sequence[str], levels: Sequence[int] | None
    ):
        self.path, self._readers = path, []
        if isinstance(variables, str):  # as a command line gives it
            variables = variables.split(",")
        for name in variables:
            if name not in FOLDERS:
                raise unknown("variable of WeatherBench", name, FOLDERS)
            # Level by level downloads are called geopotential_500 and the like.
            folders = sorted(path.glob(FOLDERS[name] + "*"), key=natural)
            files = [f for d in folders[:1] for f in d.glob(f"{FOLDERS[name]}*.nc")]
            if not files:
                raise UserError(
                    f"{path} has no {FOLDERS[name]}/{FOLDERS[name]}*.nc for variable"
                    f" {name!r}"
                )
            files = sorted(files, key=natural)
            level = "last" if levels is None else levels
            self._readers.append(GridReader(files, Skips(False), [name], level))
        first = self._readers[0]
        self._times = np.concatenate([_times(f) for f in first.names])
        self._ends = np.cumsum(first.lengths)
        for name, reader in zip(variables, self._readers, strict=True):
            if (reader.lengths, reader.sizes) != (first.lengths, first.sizes):
                raise UserError(
                    f"{path}: files of {name!r} and {variables[0]!r} differ in years or"
                    " grid; download the same ones"
                )
        self.size, self.latitude = first.sizes[0], first.latitude
        self.channels = tuple(c for r in self._readers for c in r.channels)
        self._of = [n for n, r in zip(variables, self._readers, strict=True)
                    for _ in r.channels]  # fmt: skip
        units = [r.units for r in self._readers]
        self.units = units[0] if len(set(units)) == 1 else ", ".join(units)

    def targets(self, variables: Sequence[str] | None) -> tuple[int, ...] | None:
        """Channels of the variables to predict; None for all."""
        if variables is None:
            return None
        for name in variables:
            if name not in self._of:
                raise unknown("data.target_variables", name, set(self._of))
        return tuple(k for k, name in enumerate(self._of) if name in variables)

    def segments(self, years: Sequence[int], split: str) -> list[Segment]:
        """Stretches of these years without a gap.

        Raises:
          UserError: if a year is not there.
        """
        year = self._times.astype("datetime64[Y]").astype(int) + 1970
        missing = sorted(set(range(years[0], years[1] + 1)) - set(year.tolist()))
        if missing:
            raise UserError(
                f"{self._readers[0].names[0]} and its neighbours have years"
                f" {year.min()}-{year.max()}, but not {missing[0]} of"
                f" data.{split}_years {tuple(years)}"
            )
        inside = np.flatnonzero((year >= years[0]) & (year <= years[1]))
        step = np.diff(self._times[inside])
        gaps = np.flatnonzero(step != np.timedelta64(1, "h"))
        starts = [inside[0], *(inside[g + 1] for g in gaps)]
        ends = [*(inside[g] + 1 for g in gaps), inside[-1] + 1]
        return [Segment(0, int(a), int(b)) for a, b in zip(starts, ends, strict=True)]

    def read(self, sequence: int, frames: range, process: Process) -> np.ndarray:
        """[len(frames), H, W, C]; ``sequence`` is 0."""
        del sequence
        parts = []
        numbers = np.asarray(frames)
        files = np.searchsorted(self._ends, numbers, side="right")
        for file in np.unique(files):
            mine = numbers[files == file]
            begin = int(self._ends[file - 1]) if file else 0
            part = range(mine[0] - begin, mine[-1] - begin + 1, frames.step)
            fields = [r.read(int(file), part, lambda x: x) for r in self._readers]
            parts.append(np.concatenate(fields, -1))
        return process(np.concatenate(parts))


def _times(path: str) -> np.ndarray:
    """datetime64[h] of each frame of a file."""
    xarray = import_xarray()
    with open_grid(path) as dataset:
        if "time" not in dataset:
            raise UserError(f"{path} has no coordinate 'time'")
        time = xarray.decode_cf(dataset[["time"]])["time"].values
    return time.astype("datetime64[h]")
