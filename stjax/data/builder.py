"""Writes any source once as a TFDS data set: ArrayRecord shards for random access.

What is slow to open or to decode (videos, thousands of jpgs, NetCDF) becomes a few
files that every reader, on any number of hosts, seeks in. Neither writing nor reading
(`stjax.data.sources.tfds`) needs TensorFlow.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from stjax.data.base import Source
from stjax.data.sources import open_source
from stjax.data.windows import SPLITS
from stjax.errors import UserError, unknown

VERSION = "1.0.0"


def build(
    name: str,
    out_dir: str,
    *,
    splits: Sequence[str] = SPLITS,
    compress: bool = False,
    **fields,
) -> epath.Path:
    """Writes the clips of a source as ``out_dir/name/1.0.0``.

    Clips keep their order. A generated or disturbed clip is written as it comes for
    its index, one epoch of them. Read it back with ``open_source("tfds", path=...)``.

    Args:
      name: of the source, see `stjax.data.sources`.
      out_dir: where the folder ``name`` is made, here or on gs://.
      splits: those to write.
      compress: zlib for every clip: worth it for digits, not for weather.
      **fields: the source's fields (`data.*`).

    Returns:
      The folder with the shards.

    Raises:
      UserError: if the folder exists, or the source cannot be opened.
    """
    folder = epath.Path(out_dir).expanduser() / name / VERSION
    if folder.exists():
        raise UserError(f"{folder} exists already; remove it or choose another out_dir")
    for split in splits:
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
    sources = {split: open_source(name, split, **fields) for split in splits}
    builder = _builder(name, sources, compress)(data_dir=str(folder.parent.parent))
    builder.download_and_prepare(file_format="array_record")
    return folder


def _builder(name: str, sources: dict[str, Source], compress: bool) -> type:
    """A TFDS builder class for these splits."""
    spec = next(iter(sources.values())).spec
    dtype = np.dtype(spec.dtype)
    encoding = "zlib" if compress else "none"

    class Clips(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Clips of one stjax source."""

        VERSION = tfds.core.Version(VERSION)

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"Clips of stjax's source {name!r}.",
                features=tfds.features.FeaturesDict(
                    {
                        key: tfds.features.Tensor(
                            shape=shape, dtype=dtype, encoding=encoding
                        )
                        for key, shape in (
                            ("input", spec.input_shape),
                            ("target", spec.target_shape),
                        )
                    }
                ),
                metadata=tfds.core.MetadataDict({"spec": spec.to_dict()}),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager) -> dict[str, Iterator]:
            del dl_manager
            return {split: clips(s, split) for split, s in sources.items()}

        def _generate_examples(self):
            raise NotImplementedError  # _split_generators gives the generators

    Clips.name = name
    return Clips


def clips(source: Source, split: str) -> Iterator[tuple[int, dict]]:
    """(index, clip) of one epoch; what is random depends on split and index alone."""
    for index in range(len(source)):
        rng = np.random.default_rng([SPLITS.index(split), index])
        yield index, source.clip(index, rng)
