"""The Python of measured mirrors: that of this program, or ``$MIRROR_PYTHON``."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

from tests.harness.running import PYTHON

OWN: Final = Path(sys.executable)
"""The Python of this program."""

_NAME: Final = """\
import platform, sys
own = ".".join(map(str, getattr(sys, "pypy_version_info", sys.version_info)[:3]))
name = platform.python_implementation()
print(name, own, *([] if name == "CPython" else [f"(Python {platform.python_version()})"]))
"""


@cache
def interpreter_name(python: Path = PYTHON) -> str:
    """Return the name and version of an interpreter."""
    done = subprocess.run([python, "-c", _NAME], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def has_compiler() -> bool:
    """Return whether mirrors have a just-in-time compiler, and so become faster under load."""
    return interpreter_name().startswith("PyPy")
