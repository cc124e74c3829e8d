"""Durations and sizes in the spelling of the configuration, for messages that name an option."""

from __future__ import annotations

from typing import Final

_DURATIONS_MS: Final = (("d", 86_400_000), ("h", 3_600_000), ("s", 1000), ("ms", 1))
_SIZES: Final = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1))


def duration(seconds: float) -> str:
    """Return *seconds* as a duration such as ``30s`` or ``250ms``, in the largest whole unit."""
    return _whole(round(seconds * 1000), _DURATIONS_MS, "0s")


def size(size_bytes: int) -> str:
    """Return *size_bytes* as a size such as ``8MiB``, in the largest whole unit."""
    return _whole(size_bytes, _SIZES, "0")


def _whole(amount: int, units: tuple[tuple[str, int], ...], nothing: str) -> str:
    for unit, worth in units:
        if amount and amount % worth == 0:
            return f"{amount // worth}{unit}"
    return nothing
