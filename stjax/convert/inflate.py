"""Starting a video network from an image network, or from another head."""

import re

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from stjax.convert.family import StateDict, family_of
from stjax.convert.rules import check_fit, clean, flatten, to_flax, torch_key
from stjax.stacked import stack, unstack


def inflate(
    model: nn.Module,
    state_dict: StateDict,
    *,
    seed: int = 0,
    partial: bool = False,
) -> dict:
    """Variables of a model from weights of a sibling that is smaller in time.

    A kernel [out, in, kh, kw] or [out, in, 1, kh, kw] of a layer that spans t frames
    here is repeated t times and divided by t (I3D, Carreira and Zisserman, CVPR 2017),
    so that a clip of equal frames gives what the image network gives, but for the
    zeros beyond the clip's ends. The paths of a fusion unit all get the kernel of the
    image network, and its norm. Everything else is taken as it is. New, from `seed`,
    are the classifier, if it is missing or has other classes, and the layers that the
    sibling need not have (non-local blocks).

    Args:
      model: a recogniser, such as ``create_model("i3d_r50", non_local=5)``.
      state_dict: of the image network (torchvision's or Caffe2's ResNet, UniFormer
        for ImageNet), of the 2-D network on video (C2D for an I3D), or of the model
        itself with other classes.
      seed: of the layers that are new.
      partial: leave these out instead.

    Returns:
      Flax variables, float32.

    Raises:
      UserError: keys are missing, left over or of the wrong shape.
    """
    family = family_of(model)
    state = family.adapt(clean(state_dict))
    clip = jnp.zeros((1, *family.input_shape(model, state)))
    like = jax.eval_shape(lambda: model.init(jax.random.key(0), clip))
    abstract = flatten(unstack(like))
    head = (family.head or "").rpartition(".")[0] + "."
    left = {k for k in state if not re.search(family.ignored, k)}
    missing, wrong, flat, new = [], [], {}, set()
    for path, leaf in abstract.items():
        key = torch_key(path, family)
        of_head = key.startswith(head)
        if key not in state and family.inherited:
            key = re.sub(*family.inherited, key)
        left.discard(key)
        if key not in state:
            optional = of_head or re.search(family.optional, key)
            new.add(path) if optional else missing.append(key)
            continue
        value = to_flax(np.asarray(state[key]), path, key, leaf.ndim, family)
        value = _spread(value, leaf.shape)
        if value.shape == leaf.shape:
            flat[path] = jnp.asarray(value, leaf.dtype)
        elif of_head:
            new.add(path)
        else:
            wrong.append(f"{key} {tuple(state[key].shape)} for {leaf.shape}")
    if any(path in new for path in abstract if torch_key(path, family) == family.head):
        # A bias of a head that is not taken is not either.
        new |= {p for p in abstract if torch_key(p, family).startswith(head)}
    check_fit(model, missing, {k for k in left if not k.startswith(head)}, wrong)

    if partial:
        kept = {path: value for path, value in flat.items() if path not in new}
        return stack(flax.traverse_util.unflatten_dict(kept), like)

    @jax.jit
    def fresh(key):
        made = flatten(unstack(model.init(key, clip)))
        return [made[path] for path in sorted(new)]

    made = fresh(jax.random.key(seed)) if new else []
    flat |= dict(zip(sorted(new), made, strict=True))
    return stack(flax.traverse_util.unflatten_dict(flat), like)


def _spread(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A kernel [kh, kw, I, O] or [1, kh, kw, I, O] over the t frames of `shape`."""
    if len(shape) != 5:
        return value
    if value.ndim == 4:
        value = value[None]
    frames = shape[0]
    if value.ndim == 5 and value.shape[0] == 1 < frames:
        value = np.repeat(value, frames, 0) / frames
    return value
