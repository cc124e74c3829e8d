"""What stays as long as the process, which the garbage collector needn't go through again.

CPython's is told so; PyPy's goes through what is old seldom enough, and in steps.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")


def leave_alone() -> None:
    """Leave all that is there by now, from here on."""
    if hasattr(gc, "freeze"):
        gc.freeze()


def made_to_stay(make: Callable[[], R]) -> R:
    """Return what *make* makes, some hundred thousand objects that the garbage collector leaves.

    They are there for as long as the process, and it would hold up everything to look at them.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        made = make()
        leave_alone()
        return made
    finally:
        if collects:
            gc.enable()
