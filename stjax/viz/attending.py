"""What a trained model attends to, read off a forward pass.

The values are those of the forward pass itself: the modules are watched from outside
(`flax.linen.intercept_methods`) in a compiled function of its own, so that a model
costs nothing more where nobody asks.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from stjax.data.base import LabelSpec
from stjax.errors import UserError
from stjax.stacked import unstack
from stjax.tasks import normalise
from stjax.viz.watching import COLLECTION, VALUES, Layer, Position, Watch


@dataclasses.dataclass(frozen=True)
class Gate:
    """The two factors of a TAU, whose product gates its input; neither is a share.

    Attributes:
      name: path of the module.
      static: the large kernel's result [h, w, D], of any sign.
      dynamic: a factor for every channel [D], in (0, 1).
      frames: how many frames the channels are, time major: those of the first block,
        [frames, D / frames]. None where the channels have been mixed.
    """

    name: str
    static: np.ndarray
    dynamic: np.ndarray
    frames: int | None


@dataclasses.dataclass(frozen=True)
class Relation:
    """How much one position takes from every other.

    Attributes:
      name: path of the module.
      kind: "non_local" or "mhra".
      query: the position (t, y, x), in cells of the layer.
      grid: (T, H, W) of the layer, in which the query is counted.
      weights: float32 [heads, T, h, w], over the keys. Of a softmax they sum to 1 in
        every head; those of a dot product or concatenation may have any sum, and the
        first any sign. Pooled keys are fewer than the grid's cells.
    """

    name: str
    kind: str
    query: Position
    grid: Position
    weights: np.ndarray


def attention(model, x, position: Position | None = None) -> list[Gate | Relation]:
    """The attention of a trained model on one clip, layer by layer.

    TAU gives a `Gate`; non-local blocks and UniFormer's global MHRA (also as
    translators of `stjax.models.simvp`) give a `Relation`.

    Args:
      model: a `stjax.prediction.Predictor` or `stjax.recognition.Recogniser`.
      x: one clip, as the model takes it: [T, H, W, C].
      position: the query (t, y, x) in the clip, frame and pixel; every layer takes the
        cell that it lies in. By default where most changes, see `liveliest`.

    Raises:
      UserError: more than one clip, a position outside of it, or a model without such
        layers.
    """
    clip, spec = _model_input(model, x)
    if len(clip) != 1:
        raise UserError(f"attention is shown for one clip, got {len(clip)}")
    position = liveliest(clip[0]) if position is None else tuple(position)
    size = clip.shape[1:4]
    inside = len(position) == 3
    if not inside or any(not 0 <= p < n for p, n in zip(position, size, strict=True)):
        raise UserError(f"position {position}; expected (t, y, x) within {size}")
    found = _forward(model, clip, position, isinstance(spec, LabelSpec))
    if not found:
        raise UserError(
            f"{type(model.model).__name__} has neither TAU nor non-local blocks nor"
            " global MHRA: there is no attention to show"
        )
    return [_result(*item, clip.shape[1]) for item in found]


def liveliest(clip: np.ndarray) -> Position:
    """(t, y, x) in [T, H, W, C] around which the frames change most.

    Changes from frame to frame, averaged over an eighth of the sides.
    """
    from scipy import ndimage

    change = np.abs(np.diff(np.asarray(clip, np.float64), axis=0)).mean(-1)
    if not change.size:  # a single frame: its middle
        return 0, clip.shape[1] // 2, clip.shape[2] // 2
    size = (1, *(max(1, side // 8) for side in clip.shape[1:3]))
    change = ndimage.uniform_filter(change, size, mode="constant")
    t, y, x = np.unravel_index(np.argmax(change), change.shape)
    return int(t) + 1, int(y), int(x)


def _model_input(model, x) -> tuple[np.ndarray, object]:
    """[1, T, H, W, C] as the module sees it."""
    prepared = model.prepare(x)
    clip, unit = prepared if isinstance(prepared, tuple) else (prepared, 1.0)
    clip = np.asarray(clip, np.float32) * np.float32(unit)
    return np.asarray(normalise(clip, model.spec.offset, model.spec.scale)), model.spec


def _forward(model, clip: np.ndarray, position: Position, recognises: bool) -> list:
    """(layer, its arrays) of every layer, in the order of the network."""
    module, variables = model.model, model.variables
    if getattr(module, "scan", False):  # in a loop a layer cannot be watched
        module, variables = module.clone(scan=False), unstack(variables)
    watch = Watch(position, clip.shape[1:4])
    fields = {} if recognises else {"frames": None}

    @jax.jit
    def run(variables: dict, clip: jax.Array) -> dict:
        with nn.intercept_methods(watch):
            _, found = module.apply(
                variables, clip, train=False, mutable=[COLLECTION], **fields
            )
        return found.get(COLLECTION, {})

    values = jax.device_get(run(variables, jnp.asarray(clip)))

    def arrays(path: tuple[str, ...]) -> dict:
        found = functools.reduce(lambda tree, name: tree[name], path, values)
        return found[VALUES][0]  # of the first call, where a network is called again

    return [(layer, arrays(layer.path)) for layer in watch.layers.values()]


def _result(layer: Layer, arrays: dict, frames: int) -> Gate | Relation:
    name = "/".join(layer.path)
    arrays = {key: np.asarray(value, np.float32) for key, value in arrays.items()}
    if layer.kind == "tau":
        static, dynamic = arrays["static"][0], arrays["dynamic"][0]
        whole = "enc_0" in layer.path and not len(dynamic) % frames
        return Gate(name, static, dynamic, frames if whole else None)
    return Relation(name, layer.kind, layer.query, layer.grid, arrays["weights"])
