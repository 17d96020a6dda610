"""Labelled videos that TensorFlow Datasets prepared, such as its ucf101."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from PIL import Image

from stjax.data.labelled import Views, label_spec, make_views, target
from stjax.data.lists.classes import number_labels, read_classes
from stjax.data.lists.item import Item, Listing, read_lines
from stjax.data.reading import LATE, existing
from stjax.data.records import example_lists, index_records
from stjax.data.sampling import Sampling
from stjax.errors import UserError

# Many data sets have one of the two only.
_SPLITS = {
    "train": ("train",),
    "validation": ("validation", "val", "test"),
    "test": ("test", "validation", "val"),
}


class TfdsVideos:
    """Videos with one label that TensorFlow Datasets prepared (features video, label).

    ``tfds.builder("ucf101").download_and_prepare()`` needs TensorFlow and ffmpeg, once;
    reading needs neither, in either file format (array_record, tfrecord). Only the
    frames of a clip are decoded. A clip is as in `labelled_videos`.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        path: str,
        labels: str | None = None,
        t_in: int = 16,
        frame_step: int = 4,
        sampling: str = "dense",
        size: int = 224,
        test_size: int | None = None,
        test_short_side: int | None = None,
        augment: Mapping | None = None,
        repeats: int = 1,
        clips: int = 1,
        crops: int = 1,
        aggregate: str = "softmax",
        reverse_channels: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        """Opens one split.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          path: the folder with dataset_info.json, or one above it.
          labels: a file with a class on every line, for another order than theirs.
          t_in: frames of a clip.
          frame_step: frames of the video from one to the next.
          sampling: which frames, one of `stjax.data.sampling.SAMPLINGS`.
          size: side of a training crop.
          test_size: side of the other crops; None: ``size``.
          test_short_side: of the frames that these are cut from; None: their side.
          augment: keywords of `stjax.data.spatial.TrainTransform`.
          repeats: views of a training clip.
          clips: places in time in evaluation.
          crops: places in space in evaluation: 1 or 3.
          aggregate: how the views become one score.
          reverse_channels: blue first.
          mean: of the channels, frames in [0, 1]; None: 0.45.
          std: their deviation; None: 0.225.

        Raises:
          UserError: if there is no such data set or split, or its features are others.
        """
        self._folder = _find(existing(path, "data.path"))
        self._records = _records(self._folder, split)
        own = _classes(self._folder)
        order = (
            own
            if labels is None
            else read_classes(self._folder / Path(labels).expanduser())
        )
        items = [Item(name, (name,)) for name in own]
        listing = number_labels(Listing(items, source=str(self._folder)), order)
        self._numbers = [item.labels[0] for item in listing.items]
        self._views: Views = make_views(
            split == "train",
            Sampling(sampling, t_in, frame_step),
            size=size,
            test_size=test_size,
            test_short_side=test_short_side,
            augment=augment,
            repeats=repeats,
            clips=clips,
            crops=crops,
            reverse=reverse_channels,
        )
        self.spec = label_spec(
            self._views,
            order,
            multi_label=False,
            aggregate=aggregate,
            mean=mean,
            std=std,
        )

    def __len__(self) -> int:
        return len(self._records)

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        name = f"video {index} of {self._folder}"
        try:
            example = example_lists(self._records[index])
            footage = _EncodedFootage(name, example.get("video", []))
            label = self._numbers[example["label"][0]]
        except (OSError, ValueError, IndexError, KeyError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"cannot read {name}: {error!r}; {LATE}") from error
        views, _ = self._views.take(footage, rng)
        item = Item(name, (label,))
        return {
            "input": views,
            "target": target(item, len(self.spec.classes), None, None),
        }


class _EncodedFootage:
    """Frames that are compressed images in memory."""

    rate = None

    def __init__(self, name: str, images: Sequence[memoryview]):
        if not images:
            raise UserError(f"{name} has no frames; {LATE}")
        self._name, self._images, self.length = name, images, len(images)

    def frames(self, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """See `stjax.data.footage.Footage`."""
        for k in sorted(set(wanted)):
            try:
                with Image.open(io.BytesIO(self._images[k])) as image:
                    frame = np.asarray(image.convert("RGB"))
            except OSError as error:
                raise UserError(
                    f"cannot read frame {k} of {self._name}: {error}; {LATE}"
                ) from error
            yield k, frame


class _TfRecords:
    """Random access to TFRecord files."""

    def __init__(self, files: Sequence[Path]):
        self._places = [(f, *place) for f in files for place in index_records(f)]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> bytes:
        path, position, length = self._places[index]
        with open(path, "rb") as file:
            file.seek(position)
            return file.read(length)


def _find(root: Path) -> Path:
    """The folder of the data set, in or below ``root``."""
    found = [
        p
        for depth in (".", "*", "*/*")
        for p in root.glob(f"{depth}/dataset_info.json")
    ]
    if len(found) != 1:
        names = ", ".join(str(p.parent) for p in found) or "none"
        raise UserError(
            f"{root}: expected one data set of TensorFlow Datasets (dataset_info.json),"
            f" got {names}; set data.path to its folder"
        )
    return found[0].parent


def _classes(folder: Path) -> tuple[str, ...]:
    file = folder / "label.labels.txt"
    if not file.exists():
        raise UserError(
            f"{folder}: expected a data set with features video and label, but there is"
            " no label.labels.txt"
        )
    return tuple(line for _, line in read_lines(file))


def _records(folder: Path, split: str) -> ArrayRecordDataSource | _TfRecords:
    info = json.loads((folder / "dataset_info.json").read_text())
    format, have = info.get("fileFormat", "tfrecord"), {}
    for entry in info.get("splits", []):
        pattern = f"{info['name']}-{entry['name']}.{format}-*"
        have[entry["name"]] = sorted(folder.glob(pattern))
    name = next((n for n in _SPLITS[split] if have.get(n)), None)
    if name is None:
        raise UserError(
            f"{folder} has no files of the split {split!r}; it has: {', '.join(have)}"
        )
    try:
        if format == "array_record":
            return ArrayRecordDataSource([str(f) for f in have[name]])
        if format == "tfrecord":
            return _TfRecords(have[name])
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {folder}: {error}; prepare it again") from error
    raise UserError(
        f"{folder}: prepared as {format}; expected array_record or tfrecord: prepare it"
        " with file_format='array_record'"
    )
