"""Memory that a process has touched stays its own (Linux, glibc).

XLA's CPU programs ask for their temporary memory at every call. glibc maps blocks of
that size anew and gives them back when they are freed, so that in each call the kernel
clears the same pages again: of a training step of a 3-D ResNet, a quarter of the
processor's time.
"""

import ctypes

# mallopt(3) of glibc: parameter, value.
_OPTIONS = (
    (-8, 1),  # M_ARENA_MAX: threads share one heap, others would map
    (-4, 0),  # M_MMAP_MAX: no block has a mapping of its own
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD: what is free at the top stays
    (-2, 2**26),  # M_TOP_PAD: the heap grows 64 MiB at a time
)


def keep_pages() -> bool:
    """Keeps freed memory in this process, as the ``stjax`` commands do.

    To be called before memory is used, first in a program. The process then keeps the
    most that it has needed at one time. PyTorch and numpy profit as well.

    Returns:
      Whether the system's allocator could be told; False where it is not glibc.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # musl has a mallopt that does nothing  # noqa: B018
        return all(libc.mallopt(*option) for option in _OPTIONS)
    except (OSError, AttributeError, TypeError):
        return False
