"""BAIR robot pushing: an arm pushes objects in a box, 64x64."""

from pathlib import Path

import numpy as np

from stjax.data.base import ClipSpec
from stjax.data.reading import existing, natural
from stjax.data.records import example_bytes, index_records
from stjax.data.sources.moving_digits import to_clip
from stjax.data.windows import Segment, Windows
from stjax.errors import UserError

_SIDE = 64
TFDS_NAME = "bair_robot_pushing_small"


class Bair:
    """BAIR robot pushing (Ebert et al. 2017): 4 frames in, 12 out, 64x64 rgb.

    One of these under ``path``:

    - ``softmotion30_44k/{train,test}/*.tfrecords``, with ``<t>/image_aux1/encoded`` raw
      64x64 rgb for each time step (read without TensorFlow);
    - ``bair_robot_pushing_small/<version>`` of TFDS, prepared as array_record
      (``tfds build --file_format=array_record``), for random access.

    Every window of a recording of 30 frames is a clip. The published protocol has no
    validation and selects the model on the test clips. Here ``validation`` is the
    last ``holdout`` of the training recordings; ``holdout=0`` is the published
    protocol.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        path: str,
        t_in: int = 4,
        t_out: int = 12,
        holdout: float = 0.02,
    ):
        """Opens one split.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          path: the folder with one of the folders above.
          t_in: input frames.
          t_out: target frames.
          holdout: fraction of the training recordings kept for validation.

        Raises:
          UserError: for missing or damaged files.
        """
        if not 0 <= holdout < 1:
            raise UserError(f"data.holdout={holdout}: expected a fraction below 1")
        root = existing(path, "data.path")
        tests = split == "test" or (split == "validation" and holdout == 0)
        part = "test" if tests else "train"
        if (root / TFDS_NAME).is_dir():
            self._recordings = TfdsRecordings(root / TFDS_NAME, part)
        else:
            self._recordings = RecordRecordings(root, part)
        n, span = len(self._recordings), t_in + t_out
        keep = max(1, round(n * holdout)) if holdout and not tests else 0
        used = range(n - keep, n) if split == "validation" and keep else range(n - keep)
        length = len(self._recordings.read(0))
        self._windows = Windows([Segment(k, 0, length) for k in used], span)
        if not len(self._windows):
            raise UserError(
                f"{root}: no window of {span} frames in {len(used)} recordings of"
                f" {length} frames; lower data.t_out"
            )
        names = ("red", "green", "blue")
        self.spec = ClipSpec(t_in, t_out, _SIDE, _SIDE, channels=names)

    def __len__(self) -> int:
        return len(self._windows)

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        del rng
        recording, start = self._windows[index]
        video = self._recordings.read(recording)
        end = start + self.spec.t_in + self.spec.t_out
        return to_clip(video[start:end], self.spec.t_in)


class RecordRecordings:
    """Recordings in the original .tfrecords."""

    def __init__(self, root: Path, part: str):
        folder = existing(root / "softmotion30_44k" / part, "BAIR's folder")
        self._places: list[tuple[Path, int, int]] = []
        for path in sorted(folder.glob("*.tfrecords"), key=natural):
            try:
                self._places += [(path, *place) for place in index_records(path)]
            except OSError as error:
                raise UserError(f"cannot read {path}: {error}; get it again") from error
        if not self._places:
            raise UserError(f"{folder} holds no .tfrecords")

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int) -> np.ndarray:
        """[T, 64, 64, 3] uint8."""
        path, position, length = self._places[index]
        with open(path, "rb") as file:
            file.seek(position)
            message = file.read(length)
        frames = []
        try:
            features = example_bytes(message)
            while (
                blob := features.get(f"{len(frames)}/image_aux1/encoded")
            ) is not None:
                frames.append(np.frombuffer(blob, np.uint8).reshape(_SIDE, _SIDE, 3))
        except ValueError as error:
            raise UserError(f"cannot read {path}: {error}; get it again") from error
        if not frames:
            raise UserError(f"{path}: a record has no feature 0/image_aux1/encoded")
        return np.stack(frames)


class TfdsRecordings:
    """Recordings prepared by TFDS as array_record."""

    def __init__(self, folder: Path, part: str):
        found = sorted(folder.glob("*/dataset_info.json"), key=natural)
        if not found:
            raise UserError(f"{folder} has no <version>/dataset_info.json")
        self._folder, self._part = str(found[-1].parent), part
        self._open()

    def _open(self) -> None:
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(self._folder)
        if builder.info.file_format.value != "array_record":
            raise UserError(
                f"{self._folder} is a {builder.info.file_format.value} data set, which"
                " has no random access; prepare it with --file_format=array_record"
            )
        self._data = builder.as_data_source(split=self._part)

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k != "_data"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self._data)

    def read(self, index: int) -> np.ndarray:
        """[T, 64, 64, 3] uint8."""
        return np.asarray(self._data[int(index)]["image_aux1"])
