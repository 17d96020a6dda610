"""Random access to variables of NetCDF and Zarr files (xarray), lazily."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from stjax.data.reading import Process, Skips
from stjax.errors import UserError

GRIDS = (".nc", ".nc4", ".cdf", ".netcdf", ".h5", ".hdf5", ".zarr")


# Which values of the dimensions between time and space; None for all.
Levels = Sequence[float] | Literal["last"] | None


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    inside = (".zgroup", ".zmetadata", "zarr.json")
    return path.suffix == ".zarr" or any((path / name).exists() for name in inside)


def import_xarray():
    """The xarray module.

    Raises:
      UserError: if it is not installed.
    """
    try:
        import xarray
    except ImportError as error:
        raise UserError(
            "NetCDF and Zarr files need xarray: pip install 'stjax[grids]'"
        ) from error
    return xarray


def open_grid(path: str | Path):
    """An xarray.Dataset whose values stay on disk until they are asked for.

    Times are not decoded: calendars of climate models (360 days) need no more.
    """
    fields = {}
    if is_zarr(Path(path)):
        # Left to guess, xarray warns of a store without consolidated metadata.
        consolidated = Path(path, ".zmetadata").exists()
        fields = {"engine": "zarr", "consolidated": consolidated}
    xarray = import_xarray()
    return xarray.open_dataset(str(path), decode_times=False, cache=False, **fields)


def _grid_variables(dataset) -> list[str]:
    return sorted(str(name) for name, v in dataset.data_vars.items() if v.ndim >= 3)


def _choose(values: list, levels: Levels, what: str) -> list[int]:
    """Positions of the levels among the values of a dimension."""
    if levels is None:
        return list(range(len(values)))
    if levels == "last":
        return [len(values) - 1]
    for level in levels:
        if level not in values:
            raise UserError(f"{what} has no {level}; it has: {values}")
    return [values.index(level) for level in levels]


def _latitude(dataset, rows: str) -> np.ndarray | None:
    """Degrees of the rows, where their dimension is a latitude by name or units."""
    if rows not in dataset.coords or dataset[rows].ndim != 1:
        return None
    units = str(dataset[rows].attrs.get("units", "")).lower()
    if rows.lower() not in ("lat", "latitude") and not units.startswith("degrees_n"):
        return None
    return np.asarray(dataset[rows].values, np.float32)


class _Variable:
    """How one variable becomes channels: [time, (other dims), rows, columns]."""

    def __init__(self, dataset, name: str, path: str, levels: Levels = None):
        if name not in dataset.data_vars:
            known = ", ".join(_grid_variables(dataset)) or "no variable with time"
            raise UserError(f"{path} has no variable {name!r}; it has: {known}")
        array = dataset[name]
        if array.ndim < 3:
            raise UserError(
                f"{path}: variable {name!r} has dimensions {array.dims}; expected time,"
                " rows and columns (and levels between them, if any)"
            )
        self.name = name
        rest = array.dims[:-2]
        self.time = "time" if "time" in rest else rest[0]
        self.others = tuple(d for d in rest if d != self.time)
        self.space = array.dims[-2:]
        self.length = array.sizes[self.time]
        self.size = tuple(array.sizes[d] for d in self.space)
        self.units = str(array.attrs.get("units", ""))
        self.latitude = _latitude(dataset, self.space[0])
        labels, self.take = [""], {}
        for dim in self.others:
            values = dataset[dim].values if dim in dataset else range(array.sizes[dim])
            values = np.asarray(values).tolist()
            some = levels if dim == self.others[0] else None
            self.take[dim] = _choose(values, some, f"{path}: {dim} of {name!r}")
            labels = [f"{a}_{values[b]}" for a in labels for b in self.take[dim]]
        self.channels = tuple(name + label for label in labels)

    def read(self, dataset, frames: slice) -> np.ndarray:
        """[T, H, W, C] float32."""
        array = dataset[self.name].isel({self.time: frames, **self.take})
        array = array.transpose(self.time, *self.space, *self.others)
        values = np.asarray(array.values, np.float32)
        return values.reshape(*values.shape[:3], -1)


class GridReader:
    """NetCDF or Zarr files, one sequence each; variables and levels are channels.

    Args:
      paths: the files.
      skips: what to do with unreadable ones.
      variables: their names; None for the only one there is.
      levels: which levels of variables that have some; None for all.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        skips: Skips,
        variables: Sequence[str] | None = None,
        levels: Levels = None,
    ):
        self.names, self.lengths, self.sizes = [], [], []
        self._plan: list[_Variable] = []
        self.units = ""
        for path in paths:
            try:
                dataset = open_grid(path)
            except UserError:
                raise
            except Exception as error:  # each engine raises its own kind
                skips.add(path, error)
                continue
            with dataset:
                plan = self._plan_of(dataset, variables, str(path), levels)
            channels = [v.channels for v in plan]
            if self._plan and channels != [v.channels for v in self._plan]:
                raise UserError(
                    f"{path} has channels {channels}, {self.names[0]} has"
                    f" {[v.channels for v in self._plan]}; they must be the same"
                )
            self._plan = self._plan or plan
            self.names.append(str(path))
            self.lengths.append(plan[0].length)
            self.sizes.append(plan[0].size)
        self.channels = tuple(c for v in self._plan for c in v.channels)
        units = [v.units for v in self._plan]
        self.units = units[0] if len(set(units)) == 1 else ", ".join(units)
        self.dtype, self.skipped = "float32", skips.names
        self._reset()

    @staticmethod
    def _plan_of(dataset, variables, path: str, levels: Levels) -> list[_Variable]:
        if not variables:
            variables = _grid_variables(dataset)
            if len(variables) != 1:
                known = ", ".join(variables) or "none with time, rows and columns"
                raise UserError(f"{path}: set data.variable; it has: {known}")
        plan = [_Variable(dataset, name, path, levels) for name in variables]
        if len({(v.length, v.size) for v in plan}) > 1:
            shapes = {v.name: (v.length, *v.size) for v in plan}
            raise UserError(
                f"{path}: variables differ in (time, rows, columns): {shapes}"
            )
        return plan

    def _reset(self):
        self._open: dict[int, object] = {}
        self._lock = threading.Lock()

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k not in ("_open", "_lock")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._reset()

    @property
    def dims(self) -> tuple[str, tuple[str, str]]:
        """The names of the time and of the (row, column) dimensions."""
        return self._plan[0].time, self._plan[0].space

    @property
    def latitude(self) -> np.ndarray | None:
        """Degrees of the rows [H], if the files tell them."""
        return self._plan[0].latitude

    def variable_of(self, channel: int) -> str:
        """The variable that a channel comes from."""
        return [v.name for v in self._plan for _ in v.channels][channel]

    def read(self, sequence: int, frames: range, process: Process) -> np.ndarray:
        """[len(frames), H, W, C] float32, after ``process``."""
        part = slice(frames.start, frames.stop, frames.step)
        # HDF5 is not safe to read from several threads at once.
        with self._lock:
            if sequence not in self._open:
                if len(self._open) >= 64:
                    self._open.pop(next(iter(self._open))).close()
                self._open[sequence] = open_grid(self.names[sequence])
            dataset = self._open[sequence]
            values = np.concatenate([v.read(dataset, part) for v in self._plan], -1)
        return process(values)
