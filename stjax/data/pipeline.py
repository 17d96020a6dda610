"""From a source of clips to batches, with Grain.

The order of the data is a pure function of (seed, global step): batch number ``step``
is ``dataset[step]``, whatever the number of hosts, workers or threads, and whichever
backend reads it. So a run resumes with ``batches(dataset, start=step)`` and no
iterator state is ever saved. What keeps this true: nothing is filtered (a bad clip is
replaced), and random transforms come before the slice of the host.
"""

import contextlib
from collections.abc import Iterator

import grain
import numpy as np
from absl import flags, logging

from stjax.data.base import Source
from stjax.errors import UserError, unknown

# A batch is one element here, so Grain's defaults (16 threads, 500 elements) would
# hold gigabytes.
_READ = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
_REPLACEMENTS = 10


class ReadClip:
    """Clip number -> checked example; the random map of the pipeline.

    Attributes:
      source: where clips come from.
      nan: ``"error"`` or ``"mask"``, see `make_dataset`.
      bad: ``"error"`` or ``"replace"``, see `make_dataset`.
      train: a replacement counts in training only.
    """

    def __init__(self, source: Source, nan: str, bad: str, train: bool):
        if nan not in ("error", "mask"):
            raise unknown("value of data.nan", nan, ("error", "mask"))
        if bad not in ("error", "replace"):
            raise unknown("value of data.bad", bad, ("error", "replace"))
        self.source, self.nan, self.bad, self.train = source, nan, bad, train

    def __call__(
        self, position: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """The example at a position; positions past the end are padding, weight 0."""
        count = len(self.source)
        index = int(position) % count
        weight, replaced = float(position < count), False
        try:
            clip = self._read(index, rng)
        except UserError as error:
            if self.bad == "error":
                raise
            logging.warning("clip %d is replaced by another one: %s", index, error)
            index, clip = self._replacement(rng, error)
            weight, replaced = weight if self.train else 0.0, True
        clip = self._finite(clip, index)
        return {**clip, "weight": np.float32(weight), "replaced": np.bool_(replaced)}

    def _read(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        clip = self.source.clip(index, rng)
        for name, (shape, dtype) in self.source.spec.arrays.items():
            got = clip[name]
            if got.shape != shape or got.dtype != dtype:
                raise UserError(
                    f"clip {index}: its {name} is {got.dtype} {got.shape}, expected "
                    f"{dtype} {shape}; is the file empty or truncated?"
                )
        return {"input": clip["input"], "target": clip["target"]}

    def _replacement(self, rng: np.random.Generator, error: UserError):
        for index in rng.integers(len(self.source), size=_REPLACEMENTS).tolist():
            with contextlib.suppress(UserError):
                return index, self._read(index, rng)
        raise UserError(f"{_REPLACEMENTS} clips in a row cannot be read: {error}")

    def _finite(self, clip: dict[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
        """Applies the policy for values that are not finite."""
        spec = self.source.spec
        valid = np.ones(spec.target_shape, np.uint8)
        if spec.dtype != "uint8":
            fill = {"input": spec.offset, "target": spec.target_offset}
            finite = {name: np.isfinite(clip[name]) for name in fill}
            valid = finite["target"].astype(np.uint8)
            for name, ok in finite.items():
                if ok.all():
                    continue
                if self.nan == "error":
                    frame = int(np.argmin(ok.all(axis=(1, 2, 3))))
                    frame += spec.t_in if name == "target" else 0
                    raise UserError(
                        f"clip {index}, frame {frame}: has values that are not finite; "
                        "repair the data, or leave them out with data.nan=mask"
                    )
                # The offset is what the model sees as 0.
                value = np.asarray(fill[name], clip[name].dtype)
                clip[name] = np.where(ok, clip[name], value)
        return {**clip, "mask": valid} if self.nan == "mask" else clip


def make_dataset(
    source: Source,
    *,
    batch: int,
    seed: int = 0,
    train: bool,
    shard: tuple[int, int] = (0, 1),
    nan: str = "error",
    bad: str = "error",
) -> grain.MapDataset:
    """Random access to the batches of one host.

    Args:
      source: one split of a data set.
      batch: clips in a batch of all hosts together.
      seed: of order and augmentation.
      train: shuffled anew every epoch and without end; otherwise once, in order, the
        last batch padded with clips of weight 0 so that all hosts have the same
        number of batches.
      shard: (index of this host, number of hosts).
      nan: for values that are not finite: ``"error"``, or ``"mask"`` to set them to
        what the model sees as 0 and leave them out of loss and metrics.
      bad: for clips whose file cannot be read: ``"error"``, or ``"replace"`` to log
        it and take another clip, which in evaluation has weight 0.

    Returns:
      ``dataset[step]`` is a dictionary of ``input`` [b, T_in, H, W, C_in], ``target``
      [b, T_out, H, W, C_out] in the source's dtype, ``weight`` [b] float32, and with
      ``nan="mask"`` also ``mask`` [b, T_out, H, W, C_out] uint8, 1 where the target
      is valid; b is ``batch`` over the number of hosts. Labelled clips are ``input``
      [b, V, T_in, H, W, C] and ``target`` [b, K]. ``replaced`` [b] tells which clips
      stand for others that could not be read.

    Raises:
      UserError: for an empty source or a batch that hosts cannot share; and, when
        clips are read, as `nan` and `bad` say.
    """
    host, hosts = shard
    if not 0 <= host < hosts:
        raise ValueError(f"shard {shard}: the index must be below the count")
    if batch < 1 or batch % hosts:
        raise UserError(
            f"data.batch={batch} cannot be shared by {hosts} hosts; "
            "choose a multiple of their number"
        )
    if not 0 <= seed < 2**32:
        raise UserError(f"seed={seed}: expected 0 to 2**32 - 1")
    count = len(source)
    if not count:
        raise UserError("the data source has no clips; check data.path and the split")
    read = ReadClip(source, nan, bad, train)
    if train:
        positions = grain.MapDataset.range(count).seed(seed).shuffle().repeat()
        examples = positions.random_map(read)
    else:
        padded = -(-count // batch) * batch
        examples = grain.MapDataset.range(padded).seed(seed).random_map(read)
    # Consecutive parts, so that the whole batch is the same for any number of hosts.
    return examples.batch(batch // hosts, drop_remainder=True)[host::hosts]


class Batches:
    """An iterator of batches that stops its threads and processes when it ends.

    Use it in a ``with`` statement, or call `close`.
    """

    def __init__(self, iterator: Iterator[dict[str, np.ndarray]]):
        self._iterator = iterator

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        return next(self._iterator)

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Stops reading ahead; there are no more batches. May be called twice."""
        if hasattr(self._iterator, "close"):
            self._iterator.close()
        # Grain's iterators fail in __del__ if they live until Python's exit.
        self._iterator = iter(())


def batches(
    dataset: grain.MapDataset,
    *,
    start: int = 0,
    workers: int = 0,
    backend: str = "grain",
) -> Batches:
    """Iterates over the batches of `make_dataset`, reading ahead.

    Args:
      dataset: of `make_dataset`.
      start: number of the first batch: the global step, when resuming.
      workers: processes that read (threads, with tf.data); 0 reads in a background
        thread of this process. The batches do not depend on it.
      backend: ``"grain"`` or ``"tf.data"``; both yield the same batches.

    Returns:
      An iterator and context manager.
    """
    if backend == "tf.data":
        from stjax.data.tfdata import tf_batches

        return Batches(tf_batches(dataset, start=start, workers=workers))
    if backend != "grain":
        known = ("grain", "tf.data", "device")
        raise unknown("value of data.backend", backend, known)
    rest = dataset[start:].to_iter_dataset(_READ)
    if workers:
        # Grain reads absl flags, which nobody has parsed in a notebook or a test.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        rest = rest.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        )
    return Batches(iter(rest))
