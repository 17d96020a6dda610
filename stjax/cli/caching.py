"""Where compiled programs are kept from one command to the next."""

import os
import sys

_OFF = ("off", "0", "none", "false", "")
_FOLDER, _SECONDS = (
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
)


def keep_compiled() -> None:
    """Lets JAX keep programs that took a second or more to compile.

    Where: in ``$JAX_COMPILATION_CACHE_DIR`` if that is set, else in the folder ``xla``
    of ``$STJAX_CACHE`` (local or gs://), else of ``~/.cache/stjax``
    (``$XDG_CACHE_HOME``). ``STJAX_CACHE=off`` keeps nothing. Nothing is ever deleted.

    It speaks to JAX by the environment, so it has to come before JAX is imported; a
    program that has JAX already is one of the user's own, and nothing is changed.
    """
    if "jax" in sys.modules or os.environ.get(_FOLDER):
        return
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = os.environ.get("STJAX_CACHE", os.path.join(home, "stjax"))
    if cache.lower() not in _OFF:
        os.environ[_FOLDER] = f"{cache.rstrip('/')}/xla"
        os.environ.setdefault(_SECONDS, "1")
