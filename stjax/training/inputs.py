"""From the config's ``data`` section to sources and batches."""

import inspect

import jax
import ml_collections
import numpy as np

from stjax.data import pipeline
from stjax.data.base import Source
from stjax.data.sources import open_source
from stjax.data.transforms import Augment
from stjax.errors import UserError, unknown

# Fields of `data` that are the pipeline's; all others are the source's keywords.
_PIPELINE = ("source", "backend", "batch", "workers", "nan", "bad", "augment")


def open_split(config: ml_collections.ConfigDict, split: str) -> Source:
    """Opens "train", "validation" or "test" of the config's data source."""
    fields = {k: v for k, v in config.data.items() if k not in _PIPELINE}
    return open_source(config.data.source, split=split, **fields)


def make_dataset(config: ml_collections.ConfigDict, source: Source, train: bool):
    """This host's batches by number; see `stjax.data.pipeline.make_dataset`.

    ``data.augment`` changes training clips only.

    Raises:
      UserError: an unknown field of ``data.augment``, or what the pipeline finds.
    """
    fields = config.data.augment.to_dict()
    known = [k for k in inspect.signature(Augment).parameters if k != "source"]
    for field in fields:
        if field not in known:
            raise unknown("field of data.augment", field, known)
    if train:
        augmented = Augment(source, **fields)
        source = augmented if augmented.changes else source
    return pipeline.make_dataset(
        source,
        batch=config.data.batch,
        seed=config.seed,
        train=train,
        shard=(jax.process_index(), jax.process_count()),
        nan=config.data.nan,
        bad=config.data.bad,
    )


def batches(config: ml_collections.ConfigDict, dataset, start: int = 0):
    """Iterates over a dataset from batch ``start`` on; a context manager."""
    data = config.data
    return pipeline.batches(
        dataset, start=start, workers=data.workers, backend=data.backend
    )


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
