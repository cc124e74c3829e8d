"""The mirror runs on PyPy, and keeps its promises there; it takes minutes, beside other files."""

from __future__ import annotations

from tests.deploy.debian import started


def test_mirror_runs_on_pypy() -> None:
    """The mirror is installed and tested in a separate Debian; see `tests.deploy.pypy`."""
    with started("tests.deploy.pypy", "the mirror on PyPy, in a Debian of its own") as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert output.endswith("It runs on PyPy\n"), output
