"""Keeps freed memory with the process, so that a model on the CPU does not ask the kernel for it at every layer."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
KEPT_BYTES = 256 * 2**20
LARGEST_KEPT = 32 * 2**20  # glibc takes no more
NEVER = -1


def keep_memory(*, all_of_it: bool = False) -> bool:
    """Let this process keep up to KEPT_BYTES of freed memory; whether the C library does so (glibc alone is asked).

    `all_of_it`: however large a block, and until the process ends, as training wants it, whose steps are all alike.

    A layer's states are blocks of a few megabytes, which glibc by default gives back and faults in anew: with a small
    model a tenth of the time and more (benchmarks/cpu.py).
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    if all_of_it:
        return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
