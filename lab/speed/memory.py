"""Keep freed memory for the next step in place of giving it back to the system."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


def keep_freed():
    """From here on this process reuses the memory that it frees, however large the block. Does nothing without glibc.

    glibc maps every block of more than 32 MB anew and unmaps it when it is freed, and a training step has many: the system
    fills each with zeros, page by page.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
