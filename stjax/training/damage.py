"""Checkpoints that cannot be written, or were written and cannot be read any more.

Disks lose bits, copies stop half-way, hands delete files. What is kept of an array is
compressed but has no checksum of its own, so a flipped bit may go unnoticed: `checksum`
is stored with a checkpoint and compared when it is read.
"""

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from stjax.errors import UserError

# How the system and TensorStore tell that there is no room to write.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_TEXTS = ("No space left", "Disk quota exceeded", "File too large")

_MOST = 300  # bytes of a reason that hosts tell each other


@jax.jit
def checksum(tree) -> jax.Array:
    """The sum of all words of all arrays modulo 2**32, uint32 [].

    Exact, hence the same on every mesh; one changed word always shows.
    """
    total = jnp.zeros((), jnp.uint32)
    for leaf in jax.tree.leaves(tree):
        leaf = jnp.asarray(leaf)
        if leaf.dtype == jnp.bool_:
            leaf = leaf.astype(jnp.uint8)
        words = jax.lax.bitcast_convert_type(
            leaf, jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")
        )
        total += words.astype(jnp.uint32).sum(dtype=jnp.uint32)
    return total


def reason(error: Exception) -> str:
    """What began an error, in one line that is not too long."""
    while error.__cause__:
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:_MOST]


def agreed(failure: str) -> str:
    """What failed on any of the hosts, or "": all have to take the same way.

    Args:
      failure: on this host, or "".
    """
    if jax.process_count() == 1:
        return failure
    mine = np.zeros(_MOST, np.uint8)
    text = failure.encode()[:_MOST]
    mine[: len(text)] = np.frombuffer(text, np.uint8)
    for host in np.asarray(multihost_utils.process_allgather(mine)):
        if host.any():
            return host[host > 0].tobytes().decode(errors="replace")
    return ""


def set_aside(path: epath.Path) -> epath.Path:
    """Renames a file or folder to NAME.damaged, on the first host; all wait for it."""
    target = path.parent / f"{path.name}.damaged"
    if jax.process_index() == 0:
        if target.is_dir():
            target.rmtree()
        path.replace(target)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"set aside {path}")
    return target


def drop_unreadable_metrics(checkpoints: epath.Path) -> None:
    """Takes away metrics that are no JSON, with which Orbax would not even open.

    The arrays beside them may well be good. The first host does it for all.
    """
    if jax.process_index() == 0 and checkpoints.exists():
        for step in checkpoints.iterdir():
            path = step / "metrics" / "metrics"
            if step.name.isdigit() and path.exists():
                try:
                    json.loads(path.read_text())
                except ValueError as error:
                    logging.warning(
                        "%s cannot be read (%s); the checkpoint counts as one that was"
                        " not evaluated",
                        path,
                        reason(error),
                    )
                    path.replace(path.parent / "metrics.damaged")
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("checkpoints are looked through")


@contextmanager
def room(workdir: epath.Path) -> Iterator[None]:
    """Within it, a full disk is a `UserError`; other errors are as they are."""
    try:
        yield
    except Exception as error:
        text = str(error)
        if getattr(error, "errno", None) in _FULL:
            text = error.strerror
        found = [known for known in _FULL_TEXTS if known in text]
        if not found:
            raise
        raise UserError(
            f"{workdir}: a checkpoint could not be written ({found[0]}); make room, and"
            " the same command goes on from the last good checkpoint"
        ) from error
