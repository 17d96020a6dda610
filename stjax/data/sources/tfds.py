"""Clips that `stjax datasets build` wrote: ArrayRecord shards, read at random."""

import numpy as np
import tensorflow_datasets
from etils import epath

from stjax.data.base import spec_from_dict
from stjax.errors import UserError


class Tfds:
    """A data set written once by `stjax datasets build`; needs no TensorFlow."""

    def __init__(
        self,
        split: str = "train",
        *,
        path: str,
        t_in: int | None = None,
        t_out: int | None = None,
    ):
        """Opens one split.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          path: the folder with the shards, or one above it.
          t_in: input frames, if it has to be said: as many as were written.
          t_out: target frames, likewise.

        Raises:
          UserError: if there is no such data set or split, or it has other lengths.
        """
        root = epath.Path(path).expanduser()
        if not root.exists():
            raise UserError(f"data.path {root} does not exist; set data.path")
        found = sorted(root.glob("dataset_info.json")) or sorted(
            p for depth in ("*", "*/*") for p in root.glob(f"{depth}/dataset_info.json")
        )
        if len(found) != 1:
            names = ", ".join(str(p.parent) for p in found) or "none"
            raise UserError(
                f"{root}: expected one data set written by 'stjax datasets build', got"
                f" {names}; set data.path to its folder"
            )
        self._folder, self._split = str(found[0].parent), split
        info = self._open()
        if not info.metadata or "spec" not in info.metadata:
            raise UserError(
                f"{self._folder} was not written by 'stjax datasets build': it does not"
                " say what its clips are"
            )
        if split not in info.splits:
            have = ", ".join(info.splits)
            raise UserError(f"{self._folder} has no split {split!r}; it has: {have}")
        self.spec = spec_from_dict(info.metadata["spec"])
        lengths = (self.spec.t_in, self.spec.t_out)
        if (t_in or lengths[0], t_out or lengths[1]) != lengths:
            raise UserError(
                f"{self._folder} has {lengths[0]} input and {lengths[1]} target frames,"
                f" data.t_in={t_in} and data.t_out={t_out} do not fit: build it anew"
            )
        self._length = info.splits[split].num_examples

    def _open(self) -> tensorflow_datasets.core.DatasetInfo:
        builder = tensorflow_datasets.builder_from_directory(self._folder)
        self._data = None
        if self._split in builder.info.splits:
            self._data = builder.as_data_source(split=self._split)
        return builder.info

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k != "_data"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return self._length

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        del rng
        item = self._data[int(index)]
        return {name: np.asarray(item[name]) for name in ("input", "target")}
