"""A part of the training clips that is kept for choosing between models."""

import numpy as np

from stjax.data.base import LabelSpec, Source, Spec
from stjax.errors import UserError

_SAMPLE = 3  # clips that tell whether two splits are the same


class Part:
    """Some of the clips of a source; pickles.

    What a source tells besides, such as its ``latitude``, is passed on.
    """

    def __init__(self, source: Source, indices: np.ndarray):
        """The clips with these numbers, in this order."""
        self.source, self.indices = source, np.asarray(indices)

    @property
    def spec(self) -> Spec:
        """The source's."""
        return self.source.spec

    def __len__(self) -> int:
        return len(self.indices)

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        return self.source.clip(int(self.indices[index]), rng)

    def __getattr__(self, name: str):
        if name.startswith("_") or name == "source":  # not there yet, while unpickling
            raise AttributeError(name)
        return getattr(self.source, name)


def held_out(source: Source, share: float, *, held: bool) -> Part:
    """The training clips that are held out, or the others; they never meet.

    Of labelled clips it is a random part, always the same one, because lists are often
    sorted by class; of others the last ones, because neighbours may overlap in time.

    Args:
      source: the training split.
      share: of its clips that is held out, in (0, 1).
      held: whether to return these, or the others.

    Raises:
      UserError: no such share, or one of the parts would have no clip.
    """
    n = len(source)
    count = round(n * share) if 0 < share < 1 else 0
    if not 0 < count < n:
        raise UserError(
            f"search.holdout={share} of {n} training clips: expected a share in (0, 1)"
            " that leaves clips in both parts"
        )
    order = np.arange(n)
    if isinstance(source.spec, LabelSpec):
        order = np.random.default_rng(0).permutation(n)
    return Part(source, np.sort(order[n - count :] if held else order[: n - count]))


def same_clips(a: Source, b: Source) -> bool:
    """Whether two splits hold the same clips, by their number and a few of them."""
    if len(a) != len(b) or not a.spec.fits(b.spec):
        return False
    for index in np.linspace(0, len(a) - 1, _SAMPLE).astype(int).tolist():
        pair = [s.clip(index, np.random.default_rng(index)) for s in (a, b)]
        for name, array in pair[0].items():
            other = pair[1][name]
            if array.shape != other.shape or not np.array_equal(
                array, other, equal_nan=array.dtype.kind == "f"
            ):
                return False
    return True
