"""Predictions with coordinates: xarray in, xarray out."""

import numpy as np

from stjax.errors import UserError

_SAME_UNITS = {"kelvin": "k", "degk": "k", "degree_kelvin": "k", "degrees_kelvin": "k"}


def predict(predictor, x, frames: int | None = None, batch: int | None = None):
    """Calls a `Predictor` on an xarray.DataArray.

    Args:
      predictor: the predictor.
      x: dimensions in the order (batch,) time, height, width (, channel), by any
        names. ``attrs["units"]``, if there, has to agree with the training data.
        Channels that have the names of the training data may come in any order.
      frames: how many frames to predict.
      batch: clips predicted at once.

    Returns:
      A DataArray float32 with the dimensions of x, but ``lead_time`` for the time
      dimension: the time after the last input frame where the input's times are
      evenly spaced (then ``valid_time`` is a coordinate too), else 1, 2, 3 ...
      Times that are numbers with units, as "hours since 1970-01-01" of any calendar,
      stay such.
      Other coordinates, name, attributes and units are kept.

    Raises:
      UserError: other units, or what `Predictor.__call__` finds.
    """
    import xarray as xr

    spec = predictor.spec
    _check_units(x.attrs.get("units", ""), spec.units)
    if x.ndim > 3 and x.dims[-1] in x.coords:
        names = x[x.dims[-1]].values.tolist()
        if set(spec.channels) <= set(names):
            x = x.sel({x.dims[-1]: list(spec.channels)})
    y = predictor(x.values, frames, batch)
    time = x.dims[1 if x.ndim == 5 else 0]
    rest = x.isel({time: 0}, drop=True)
    if x.ndim == 3:
        y = y[0, ..., 0]
    else:
        y = y if x.ndim == 5 else y[0]
        rest = rest.isel({x.dims[-1]: list(spec.target_index)})
    dims = ["lead_time" if d == time else d for d in x.dims]
    coords = {
        k: v for k, v in rest.coords.items() if k not in ("lead_time", "valid_time")
    }
    lead, last = _lead_times(x, time, len(y[0]) if x.ndim == 5 else len(y))
    attrs = x[time].attrs if time in x.coords else {}
    about = {k: attrs[k] for k in ("units", "calendar", "standard_name") if k in attrs}
    unit, since, _ = about.get("units", "").partition(" since ")
    about_lead = {"units": unit} if since and last is not None else {}
    coords["lead_time"] = ("lead_time", lead, about_lead)
    if last is not None:
        coords["valid_time"] = ("lead_time", last + lead, about)
    attrs = dict(x.attrs)
    if spec.units:
        attrs.setdefault("units", spec.units)
    return xr.DataArray(y, coords, dims, name=x.name, attrs=attrs)


def _check_units(got: str, expected: str) -> None:
    names = [
        _SAME_UNITS.get(u.strip().lower(), u.strip().lower()) for u in (got, expected)
    ]
    if all(names) and names[0] != names[1]:
        raise UserError(
            f"input has units {got!r}, the model was trained on {expected!r}; convert"
        )


def _lead_times(x, time: str, frames: int) -> tuple[np.ndarray, object]:
    """The times after the last input frame, and that frame's time (or None)."""
    count = np.arange(1, frames + 1)
    if time not in x.coords or x.sizes[time] < 2:
        return count, None
    times = x[time].values
    steps = np.diff(times)
    if times.dtype.kind == "f":
        even = np.allclose(steps, steps[0])
    else:
        even = (steps == steps[0]).all()
    return (count * steps[0], times[-1]) if even else (count, None)
