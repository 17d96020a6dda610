"""From the config's ``data`` section to sources and batches."""

import inspect

import jax
import ml_collections
import numpy as np

from stjax.data import pipeline
from stjax.data.base import Source
from stjax.data.holdout import held_out
from stjax.data.sources import open_source, source_class
from stjax.errors import UserError
from stjax.tasks import task_of
from stjax.training.device_clips import DeviceClips

_TOLERATED = 4  # bad clips that stop nothing, so that a share means something
# Fields of `data` that are the pipeline's; all others are the source's keywords.
_PIPELINE = ("source", "backend", "batch", "workers", "nan", "bad", "bad_share")
_SHARDS = ("path", "t_in", "t_out", "augment")  # those of data.source=tfds


def open_split(config: ml_collections.ConfigDict, split: str) -> Source:
    """Opens "train", "validation" or "test" of the config's data source.

    With ``search.holdout`` the validation split is that share of the training clips,
    and training has the others.
    """
    share = config.get("search", {}).get("holdout")
    if share and split in ("train", "validation"):
        whole = _open_split(config, "train")
        return held_out(whole, share, held=split == "validation")
    return _open_split(config, split)


def _open_split(config: ml_collections.ConfigDict, split: str) -> Source:
    data = config.data.to_dict()
    fields = {k: v for k, v in data.items() if k not in _PIPELINE}
    if data["source"] == "tfds":  # the config's others were used in writing it
        fields = {k: v for k, v in fields.items() if k in _SHARDS}
    # Sources of labelled videos augment while they read; others are wrapped.
    if "augment" not in inspect.signature(source_class(data["source"])).parameters:
        del fields["augment"]
    return open_source(data["source"], split=split, **fields)


def make_dataset(config: ml_collections.ConfigDict, source: Source, train: bool):
    """This host's batches by number; see `stjax.data.pipeline.make_dataset`.

    ``data.augment`` changes training clips only, and ``data.backend="device"`` makes
    only these on the devices.

    Raises:
      UserError: an unknown field of ``data.augment``, or what the pipeline finds.
    """
    augmented = task_of(source.spec).training_source(source, config)
    source = augmented if train else source
    if train and config.data.backend == "device":
        mask = config.data.nan == "mask"
        return DeviceClips(source, config.data.batch, config.seed, mask)
    return pipeline.make_dataset(
        source,
        batch=config.data.batch,
        seed=config.seed,
        train=train,
        shard=(jax.process_index(), jax.process_count()),
        nan=config.data.nan,
        bad=config.data.bad,
    )


class Feed:
    """Iterates over batches, counts the clips that could not be read; a context.

    Attributes:
      replaced: clips so far that stood for others.
    """

    def __init__(self, config: ml_collections.ConfigDict, dataset, start: int = 0):
        """Begins at batch ``start``."""
        data = config.data
        if isinstance(dataset, DeviceClips):
            self._batches = dataset.batches(start)
        else:
            backend = "grain" if data.backend == "device" else data.backend
            self._batches = pipeline.batches(
                dataset, start=start, workers=data.workers, backend=backend
            )
        self._share, self._seen, self.replaced = data.bad_share, 0, 0

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *exception) -> None:
        self._batches.close()

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        """A batch.

        Raises:
          UserError: too many of the clips so far could not be read.
        """
        batch = next(self._batches)
        replaced = batch.pop("replaced", ())
        if not len(replaced):  # made on the devices
            return batch
        self._seen += len(replaced)
        self.replaced += int(replaced.sum())
        if self.replaced > max(self._share * self._seen, _TOLERATED):
            raise UserError(
                f"{self.replaced} of {self._seen} clips could not be read (the log"
                " names them), which is more than data.bad_share="
                f"{self._share}; repair the data"
            )
        return batch


def batches(config: ml_collections.ConfigDict, dataset, start: int = 0) -> Feed:
    """Iterates over a dataset from batch ``start`` on; a context manager."""
    return Feed(config, dataset, start)


def length(config: ml_collections.ConfigDict, clips: int) -> tuple[int, int]:
    """Steps of the run, and of an epoch over so many training clips.

    ``train.steps`` wins over ``train.epochs``. As in the papers' loaders, what is
    left of an epoch after its last full batch counts for nothing.

    Raises:
      UserError: an epoch has no full batch.
    """
    epoch = clips // config.data.batch
    if not epoch:
        raise UserError(
            f"the training split has {clips} clips, less than one batch of"
            f" {config.data.batch}; lower data.batch"
        )
    return config.train.steps or config.train.epochs * epoch, epoch


def mean_target_frame(source: Source, clips: int = 200, seed: int = 0) -> np.ndarray:
    """The mean frame of a sample of targets, [H, W, C_out] as the model sees it.

    Evenly spaced clips; missing values are left out, and where all are missing it is 0.
    """
    spec = source.spec
    total = np.zeros(spec.target_shape[1:])
    count = np.zeros(spec.target_shape[1:])
    picks = np.unique(np.linspace(0, len(source) - 1, clips).astype(int))
    for index in picks.tolist():
        rng = np.random.default_rng([seed, index])
        target = np.asarray(source.clip(index, rng)["target"], np.float64)
        valid = np.isfinite(target)
        total += np.where(valid, target, 0).sum(0)
        count += valid.sum(0)
    raw = total / np.maximum(count, 1)
    mean = (raw - np.array(spec.target_offset)) / np.array(spec.target_scale)
    return np.where(count > 0, mean, 0).astype(np.float32)
