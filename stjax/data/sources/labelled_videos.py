"""Labelled videos: files or folders of frames, in the formats of the known data sets."""

from pathlib import Path

import numpy as np

from stjax.data.footage import open_footage
from stjax.data.labelled import View
from stjax.data.lists import read_list
from stjax.data.reading import existing


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
        fold: int = 1,
        fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
        skip_unreadable: bool = False,
        t_in: int = 16,
        frame_step: int = 4,
        sampling: str = "dense",
        fps: float | None = None,
        size: int = 224,
        test_size: int | None = None,
        jitter: tuple[int, int] | None = None,
        augment: dict | None = None,
        repeats: int = 1,
        clips: int = 1,
        crops: int = 1,
        aggregate: str = "softmax",
        reverse_channels: bool = False,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
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
          test_size: side of the other crops, and length of the shorter side they are
            cut from; None: ``size``.
          jitter: range of the shorter side that a training crop is cut from, instead of
            a random part of the frame: (256, 320) in the non-local networks' paper.
          augment: further keywords of `stjax.data.spatial.TrainTransform`.
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
