"""What the mirrors that are measured run on: this program's Python, or ``$MIRROR_PYTHON``."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

from tests.harness.running import PYTHON

OWN: Final = Path(sys.executable)
"""This program's."""

_NAME: Final = """\
import platform, sys
own = ".".join(map(str, getattr(sys, "pypy_version_info", sys.version_info)[:3]))
name = platform.python_implementation()
print(name, own, *([] if name == "CPython" else [f"(Python {platform.python_version()})"]))
"""


@cache
def named(python: Path = PYTHON) -> str:
    """Return what an interpreter calls itself, with its version."""
    said = subprocess.run([python, "-c", _NAME], capture_output=True, text=True, check=True)
    return said.stdout.strip()


def compiles() -> bool:
    """Tell whether mirrors get faster as they see the same again and again: PyPy compiles it."""
    return named().startswith("PyPy")
