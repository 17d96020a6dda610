"""Labelled videos: files or folders of frames, in the formats of known data sets."""

from collections.abc import Mapping, Sequence

import numpy as np

from stjax.data.footage import open_footage
from stjax.data.labelled import Views, label_spec, make_views, target
from stjax.data.lists import Request, read_list
from stjax.data.reading import Skips, existing
from stjax.data.sampling import Sampling
from stjax.errors import UserError


class LabelledVideos:
    """Videos and their classes: Kinetics, Something-Something, UCF101, your own ...

    A clip is ``input`` [views, t_in, side, side, 3] uint8 and ``target`` [K] float32,
    1 for the classes that are there. In training the views are ``repeats``
    augmentations of one random clip; otherwise, clip by clip, ``crops`` of each of
    ``clips`` places in the video, the same ones at every call. A video that is too
    short repeats its last frame.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        path: str,
        format: str = "folders",
        train_list: str | None = None,
        validation_list: str | None = None,
        test_list: str | None = None,
        prefix: str | None = None,
        frame_pattern: str | None = None,
        labels: str | None = None,
        num_classes: int | None = None,
        multi_label: bool | None = None,
        fold: int = 1,
        fractions: Sequence[float] = (0.8, 0.1, 0.1),
        skip_unreadable: bool = False,
        t_in: int = 16,
        frame_step: int = 4,
        sampling: str = "dense",
        fps: float | None = None,
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
        """Reads the list and looks whether its videos are there; opens none.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          path: the folder of the data set: lists, and videos unless ``prefix`` says
            otherwise.
          format: of the lists, one of `stjax.data.lists.FORMATS`.
          train_list: file, in ``path`` or anywhere; None: the format's usual name.
          validation_list: likewise.
          test_list: likewise; many data sets have none: then that of validation.
          prefix: the folder of the videos, in ``path`` or anywhere.
          frame_pattern: names of the files in a folder of frames, such as
            ``"img_{:05d}.jpg"``; None: what the format says, or all images, sorted.
          labels: a file with the name of a class on every line, in the order of the
            model's outputs. Needed where the list has numbers only; where it has names
            it sets their order (as `stjax.convert` does for weights).
          num_classes: how many there are, where neither list nor ``labels`` tells.
          multi_label: whether a video has any number of classes; None: as the format
            says.
          fold: which of the three official splits of UCF101 and HMDB51.
          fractions: training, validation and test part of ``format="folders"`` without
            folders of splits.
          skip_unreadable: leave out videos that are missing (some always are);
            ``skipped`` and a warning name them. For damaged ones see `data.bad` of
            `stjax.data.pipeline`.
          t_in: frames of a clip.
          frame_step: frames of the video from one to the next.
          sampling: which frames, one of `stjax.data.sampling.SAMPLINGS`.
          fps: frames a second in which ``frame_step`` counts; None: those of the video.
          size: side of a training crop.
          test_size: side of the other crops; None: ``size``.
          test_short_side: of the frames that these are cut from; None: their side.
          augment: keywords of `stjax.data.spatial.TrainTransform`: ``jitter``,
            ``flip``, ``rand_augment`` ...
          repeats: views of a training clip (repeated augmentation).
          clips: places in time in evaluation.
          crops: places in space in evaluation: 1 (the middle) or 3.
          aggregate: how the views become one score, see `stjax.data.base.LabelSpec`.
          reverse_channels: blue first, as PySlowFast's models of Something-Something
            and Charades want it.
          mean: of the channels in the order of the model, frames in [0, 1]; None: 0.45.
          std: their deviation; None: 0.225.

        Raises:
          UserError: for a missing or broken list and, unless skipped, missing videos.
        """
        named = {"train": train_list, "validation": validation_list, "test": test_list}
        request = Request(
            existing(path, "data.path"),
            split,
            {s: str(file) for s, file in named.items() if file is not None},
            prefix,
            fold,
            tuple(fractions),
        )
        self._skips = Skips(skip_unreadable)
        listing, self._root = read_list(
            format,
            request,
            labels=labels,
            num_classes=num_classes,
            multi_label=multi_label,
            skips=self._skips,
        )
        self._skips.report()
        if frame_pattern and frame_pattern.format(1) == frame_pattern.format(2):
            raise UserError(
                f"data.frame_pattern={frame_pattern!r}: expected a place for a number,"
                " such as 'img_{:05d}.jpg'"
            )
        self._items, self._pattern = listing.items, frame_pattern
        self._views: Views = make_views(
            split == "train",
            Sampling(sampling, t_in, frame_step, fps),
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
            listing.classes,
            multi_label=listing.multi_label,
            aggregate=aggregate,
            mean=mean,
            std=std,
        )
        # A training clip has the classes of its own frames, if the list tells.
        self._by_span = split == "train"

    @property
    def skipped(self) -> list[str]:
        """Videos that were left out."""
        return self._skips.names

    @property
    def names(self) -> list[str]:
        """The videos, relative to their folder, in the order of the clips."""
        return [item.path for item in self._items]

    @property
    def class_frequency(self) -> np.ndarray:
        """[K]: the share of the videos that have a class."""
        labels = [label for item in self._items for label in set(item.labels)]
        counts = np.bincount(labels, minlength=len(self.spec.classes))
        return counts / len(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        item = self._items[index]
        footage = open_footage(self._root, item, self._pattern)
        views, span = self._views.take(footage, rng)
        classes = target(
            item, len(self.spec.classes), span if self._by_span else None, footage.rate
        )
        return {"input": views, "target": classes}
