"""The table of data sets: ``open_source(name, split=..., **fields)``.

To add a data set, write one module in this folder with a class that is a
`stjax.data.base.Source`: it pickles, its constructor takes ``split`` and, by
keyword, the `data.*` fields of the config that it understands, and a wrong or
missing file raises `stjax.errors.UserError`. Then add one line to `SOURCES`. The
class is imported only when it is asked for, so that it may need an optional
package. The parameters of ``__init__`` are the table of its fields: it takes no
``**kwargs``. The first line of the class docstring is what `stjax datasets` prints.
"""

import importlib
import inspect

from stjax.data.base import Source
from stjax.errors import UserError, unknown

SPLITS = ("train", "validation", "test")

# name -> "module:Class"; modules are relative to this package.
SOURCES = {
    "appearance": "known_answers:Appearance",
    "bair": "bair:Bair",
    "files": "files:Files",
    "human": "human:Human",
    "kinetics": "kinetics:Kinetics",
    "kitti_caltech": "kitti_caltech:KittiCaltech",
    "kth": "kth:Kth",
    "labelled_videos": "labelled_videos:LabelledVideos",
    "moving_digits": "moving_digits:MovingDigits",
    "moving_fmnist": "mnist_variants:MovingFmnist",
    "moving_mnist": "moving_mnist:MovingMnist",
    "moving_mnist_cifar": "mnist_variants:MovingMnistCifar",
    "noisy_moving_mnist": "mnist_variants:NoisyMovingMnist",
    "order_ladder": "known_answers:OrderLadder",
    "sevir": "sevir:Sevir",
    "shape_and_drift": "known_answers:ShapeAndDrift",
    "taxibj": "taxibj:TaxiBJ",
    "tfds": "tfds:Tfds",
    "tfds_videos": "tfds_videos:TfdsVideos",
    "weatherbench": "weatherbench:WeatherBench",
}


def list_sources() -> list[str]:
    """The names that `open_source` knows, sorted."""
    return sorted(SOURCES)


def source_class(name: str) -> type:
    """The class behind a name.

    Raises:
      UserError: for an unknown name.
    """
    if name not in SOURCES:
        raise unknown("data source", name, list_sources())
    module, attribute = SOURCES[name].split(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def open_source(name: str, split: str = "train", **fields) -> Source:
    """Opens one split of a data set.

    Args:
      name: one of `list_sources`.
      split: ``"train"``, ``"validation"`` or ``"test"``.
      **fields: the source's own constructor keywords (`data.*` of a config). A field
        that is None counts as not given: config placeholders are None.

    Returns:
      The source: its ``spec``, its length, and its clips.

    Raises:
      UserError: for an unknown name, split or field, a missing one, and for files
        that are missing or broken.
    """
    cls = source_class(name)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    fields = {key: value for key, value in fields.items() if value is not None}
    parameters = inspect.signature(cls).parameters
    known = [key for key in parameters if key != "split"]
    for key in fields:
        if key not in known:
            raise unknown(f"field of data source {name!r}", key, known)
    for key in known:
        if parameters[key].default is inspect.Parameter.empty and key not in fields:
            raise UserError(f"data source {name!r} needs data.{key}: set it")
    path = str(fields.get("path", ""))
    if "://" in path and name != "tfds":
        raise UserError(
            f"data.path={path}: data source {name!r} reads local files. Copy them here,"
            " or write them as shards ('stjax datasets build'): data.source=tfds reads"
            " those from gs://"
        )
    return cls(split=split, **fields)
