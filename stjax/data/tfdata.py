"""The tf.data twin: the same batches as Grain's, read by tf.data.

It maps `tf.data.Dataset.range` over the same random-access dataset, so that order and
content come from one place and only the reading ahead is TensorFlow's.
"""

from collections.abc import Iterator

import numpy as np

from stjax.errors import UserError


def tf_batches(
    dataset, *, start: int = 0, workers: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """Iterates over a random-access dataset through tf.data.

    Args:
      dataset: `stjax.data.pipeline.make_dataset`'s: ``dataset[step]`` is a batch.
      start: number of the first batch.
      workers: batches read in parallel; at least one.

    Returns:
      A generator of batches in order.

    Raises:
      UserError: if TensorFlow is missing; and what reading a clip raises.
    """
    try:
        import tensorflow as tf
    except ImportError:
        raise UserError(
            "data.backend='tf.data' needs TensorFlow: pip install 'stjax[tfdata]', "
            "or use data.backend='grain'"
        ) from None
    # TensorFlow would claim the whole GPU, which is JAX's.
    tf.config.set_visible_devices([], "GPU")
    return _iterate(tf, dataset, start, max(1, workers))


def _iterate(tf, dataset, start: int, parallel: int):
    length = len(dataset)
    if start >= length:
        return
    like = dataset[start]
    errors = []

    def load(step):
        # TensorFlow would wrap the error in pages of its own text.
        try:
            return list(dataset[int(step)].values())
        except UserError as error:
            errors.append(error)
            raise

    def read(step):
        dtypes = [value.dtype for value in like.values()]
        return tf.numpy_function(load, [step], dtypes, stateful=False)

    data = tf.data.Dataset.range(start, length)
    data = data.map(read, num_parallel_calls=parallel, deterministic=True).prefetch(2)
    try:
        for values in data.as_numpy_iterator():
            yield dict(zip(like, values, strict=True))
    except tf.errors.OpError:
        if errors:
            raise errors[0] from None
        raise
