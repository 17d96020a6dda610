"""Predictions from NetCDF and Zarr files to such files, with their coordinates."""

from collections.abc import Sequence
from pathlib import Path

from stjax.data.grids import GRIDS, GridReader, import_xarray, is_zarr, open_grid
from stjax.data.reading import Skips, existing
from stjax.errors import UserError, unknown


def is_grid(path: str) -> bool:
    """Whether a path is a NetCDF or Zarr file by its name."""
    return Path(path).suffix.lower() in GRIDS


def read_grid(
    path: str,
    channels: Sequence[str],
    variables: Sequence[str] | None = None,
    frames: int | None = None,
    step: int = 1,
):
    """The last frames of a file as an xarray.DataArray for a `Predictor`.

    Args:
      path: NetCDF or Zarr.
      channels: of the model: variables, with the level where they have some ("t_500").
      variables: where the file calls them otherwise: its variables, whose channels
        are taken in this order for those of the model.
      frames: how many; None for all.
      step: every how many frames one is taken, counted from the last.

    Returns:
      [time, rows, columns, channel] float32 with the file's coordinates; the channel
      coordinate has the model's names. Times are not decoded: any calendar will do.

    Raises:
      UserError: no such file, variable or channel; too few frames.
    """
    existing(path, "--input")
    try:
        dataset = open_grid(path)
    except UserError:
        raise
    except Exception as error:  # each engine raises its own kind
        raise UserError(f"{path}: cannot be read ({error}); repair it") from error
    with dataset:
        names = variables or _variables_of(dataset, channels, path)
        reader = GridReader([Path(path)], Skips(False), names)
        found = reader.channels
        if not variables:
            for channel in channels:
                if channel not in found:
                    raise unknown(f"channel of {path}", channel, found)
            take = [found.index(name) for name in channels]
        elif len(found) == len(channels):
            take = list(range(len(found)))
        else:
            raise UserError(
                f"{path}: {', '.join(names)} are {len(found)} channels, the model takes"
                f" {len(channels)} ({', '.join(channels[:8])})"
            )
        length = reader.lengths[0]
        frames = -(-length // step) if frames is None else frames
        first = length - 1 - (frames - 1) * step
        if first < 0:
            raise UserError(
                f"{path} has {length} frames, {(frames - 1) * step + 1} are needed"
                f" ({frames} input frames, every {step})"
            )
        values = reader.read(0, range(first, length, step), lambda frames: frames)
        time, space = reader.dims
        like = dataset[reader.variable_of(take[0])]
        others = {d: 0 for d in like.dims if d not in (time, *space)}
        like = like.isel(others, drop=True)
        like = like.transpose(time, *space).isel({time: slice(first, length, step)})
        return _labelled(values[..., take], like, dataset, reader, take, channels)


def _labelled(values, like, dataset, reader, take, channels):
    xarray = import_xarray()
    coords = {name: c.load() for name, c in like.coords.items()}
    names = [reader.variable_of(k) for k in take]
    units = [str(dataset[name].attrs.get("units", "")) for name in names]
    coords["channel"] = ("channel", list(channels))
    coords["channel_units"] = ("channel", units)
    dims = (*like.dims, "channel")
    return xarray.DataArray(values, coords, dims, attrs={"units": reader.units})


def _variables_of(dataset, channels: Sequence[str], path: str) -> list[str]:
    """The variables of a file that have the channels of a model."""
    known = [str(name) for name, v in dataset.data_vars.items() if v.ndim >= 3]
    found = []
    for channel in channels:
        fits = [n for n in known if channel == n or channel.startswith(n + "_")]
        if not fits:
            raise UserError(
                f"{path} has no variable for the model's channel {channel!r}; it has:"
                f" {', '.join(known) or 'none with time, rows and columns'}; name them"
                " with --variable"
            )
        found.append(max(fits, key=len))
    return list(dict.fromkeys(found))


def to_dataset(prediction):
    """A prediction [lead_time, rows, columns, channel] as one variable a channel."""
    xarray = import_xarray()
    variables = {}
    for k, name in enumerate(prediction["channel"].values.tolist()):
        variable = prediction.isel(channel=k).drop_vars("channel")
        units = str(variable["channel_units"].values)
        variables[name] = variable.drop_vars("channel_units")
        variables[name].attrs = {"units": units} if units else {}
    return xarray.Dataset(variables)


def write_grid(dataset, path: str) -> None:
    """Writes an xarray.Dataset: Zarr where the path ends with .zarr, else NetCDF."""
    if is_zarr(Path(path)) or path.endswith(".zarr"):
        dataset.to_zarr(path, mode="w", consolidated=False)
    else:
        # HDF5 refuses to write to a file that this process also reads.
        part = Path(f"{path}.part")
        dataset.to_netcdf(part, engine="h5netcdf")
        part.replace(path)


def predict_grid(
    predictor,
    path: str,
    output: str,
    *,
    variables: Sequence[str] | None = None,
    frames: int | None = None,
    step: int = 1,
) -> str:
    """Forecasts what comes after a file; the last T_in frames are the input.

    Args:
      predictor: a `stjax.prediction.Predictor`.
      path: NetCDF or Zarr.
      output: a folder; gets ``prediction.nc`` or ``prediction.zarr``, as the input is.
      variables: see `read_grid`.
      frames: how many to predict.
      step: every how many frames of the file the model takes.

    Returns:
      The path of what was written.
    """
    spec = predictor.spec
    x = read_grid(path, spec.channels, variables, spec.t_in, step)
    y = predictor(x, frames)
    suffix = ".zarr" if is_zarr(Path(path)) else ".nc"
    target = Path(output) / f"prediction{suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_grid(to_dataset(y), str(target))
    return str(target)
