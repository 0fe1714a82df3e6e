"""The memory of this process: how much it holds, and the most that it has held since it was last asked."""

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path

__all__ = ["METHOD_RESETS", "METHOD_RUSAGE", "peak_bytes", "reset_peak"]

METHOD_RESETS = "VmHWM of the process, reset before each measurement"
METHOD_RUSAGE = "getrusage, which cannot be reset: the most since the process began"

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def reset_peak() -> str:
    """Begin to measure anew, where the system allows it; returns how the peak is measured."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        # What earlier work has freed must not count for this one: glibc keeps it otherwise.
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _CLEAR.write_text("5")
    except OSError:
        return METHOD_RUSAGE
    return METHOD_RESETS


def peak_bytes() -> int:
    """The most bytes that this process has held in memory since `reset_peak`."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        # Kilobytes on Linux, bytes on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    [line] = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
