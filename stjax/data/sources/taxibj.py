"""TaxiBJ: inflow and outflow of taxis in Beijing on a 32x32 grid, half-hourly."""

import numpy as np

from stjax.data.arrays import open_array
from stjax.data.base import ClipSpec
from stjax.data.reading import existing
from stjax.errors import UserError


class TaxiBJ:
    """TaxiBJ, the traffic benchmark: 4 frames in, 4 out, 2 flows, 32x32.

    ``dataset.npz`` of Zhang et al. 2017 as OpenSTL ships it: ``X_train Y_train X_test
    Y_test``, each (N, 4, 2, 32, 32), values in [-1, 1]; a model sees (x + 1) / 2.

    The published protocol selects the model on the test clips. Here ``validation`` is
    the last ``holdout`` training clips in time, and the clips before them that share
    frames with them are left out; ``holdout=0`` is the published protocol.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        path: str,
        t_in: int = 4,
        t_out: int = 4,
        holdout: int = 500,
    ):
        """Opens one split.

        Args:
          split: ``"train"``, ``"validation"`` or ``"test"``.
          path: ``dataset.npz``, or the folder that it is in.
          t_in: input frames, as many as the file has.
          t_out: target frames, as many as the file has.
          holdout: training clips kept for validation.

        Raises:
          UserError: for a file that is missing, damaged or of other lengths.
        """
        file = existing(path, "TaxiBJ's")
        file = existing(file / "dataset.npz", "TaxiBJ's") if file.is_dir() else file
        tests = split == "test" or (split == "validation" and holdout == 0)
        part = "test" if tests else "train"
        try:
            self._x = open_array(file, f"X_{part}")
            self._y = open_array(file, f"Y_{part}")
        except (OSError, ValueError, EOFError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{file} cannot be read: {error}; get it again") from error
        shapes = (self._x.shape[1:], self._y.shape[1:])
        if shapes != ((t_in, 2, 32, 32), (t_out, 2, 32, 32)):
            raise UserError(
                f"{file} has clips of {shapes[0]} and {shapes[1]}, expected"
                f" ({t_in}, 2, 32, 32) and ({t_out}, 2, 32, 32): set data.t_in and"
                " data.t_out to the file's"
            )
        self._file, self._part = file, part
        self._clips = _clips(len(self._x), split, part, holdout, t_in + t_out - 1)
        self.spec = ClipSpec(
            t_in,
            t_out,
            32,
            32,
            channels=("inflow", "outflow"),
            dtype="float32",
            offset=(-1.0,),
            scale=(2.0,),
        )

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k not in ("_x", "_y")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._x = open_array(self._file, f"X_{self._part}")
        self._y = open_array(self._file, f"Y_{self._part}")

    def __len__(self) -> int:
        return len(self._clips)

    def clip(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `stjax.data.base.Source`."""
        del rng
        k = self._clips[index]
        both = {"input": self._x[k], "target": self._y[k]}  # [T, C, H, W]
        return {
            name: np.ascontiguousarray(np.moveaxis(x, 1, -1), np.float32)
            for name, x in both.items()
        }


def _clips(n: int, split: str, part: str, holdout: int, gap: int) -> range:
    if part == "test":
        return range(n)
    if not 0 <= holdout < n - gap:
        raise UserError(f"data.holdout={holdout}: there are {n} training clips")
    if split == "validation":
        return range(n - holdout, n)
    return range(n - holdout - gap) if holdout else range(n)
