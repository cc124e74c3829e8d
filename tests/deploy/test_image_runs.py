"""The image's steps run in a Debian of their own, and so does the mirror in what they make.

This takes a minute, and a file of its own, so that others are run beside it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.deploy.apart import obstacle
from tests.running import ROOT
from tests.test_packaging import clean_environment

NOT_RUN = "NOT RUN: the image's steps in a Debian of their own"


@contextmanager
def image(*arguments: str, temporary: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Build and run the image, where that is allowed; else say so at the end of ``make test``."""
    why_not = obstacle()
    if why_not:
        pytest.skip(f"{NOT_RUN}: {why_not}")
    # If this process is killed, the other is told to end, and removes what it has made.
    # A job in the background of a shell is given SIGINT ignored, and would give it on like that.
    command = ["env", "--default-signal=INT", "setpriv", "--pdeathsig", "TERM"]
    command += [sys.executable, "-m", "tests.deploy.image"]
    environment = clean_environment()
    if temporary is not None:
        environment["TMPDIR"] = str(temporary)
    with subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def mounts(below: Path) -> list[str]:
    """Return what is mounted below a directory, wherever any process sees it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        with suppress(OSError):  # it has just ended
            found += [line for line in path.read_text().splitlines() if str(below) in line]
    return found


def test_the_image() -> None:
    """It is built, its files are right, and it starts, answers and ends; see `tests.deploy.image`.

    What it said is shown if it fails.
    """
    with image() as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    assert said.endswith("It ends well\n"), said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_it_is_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    """No file, no mount and no process: its output ends when nobody is left who could write."""
    with image(temporary=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Debian")
        process.send_signal(number)
        process.communicate()
    assert process.returncode != 0
    assert (list(tmp_path.iterdir()), mounts(tmp_path)) == ([], [])


def test_nothing_is_left_when_a_step_fails(tmp_path: Path) -> None:
    """It says what failed; the base stays, which was given, and so do this machine's devices."""
    base, temporary = tmp_path / "base", tmp_path / "temporary"
    for path in (base / "proc", base / "dev", temporary):
        path.mkdir(parents=True)
    with image(str(base), temporary=temporary) as process:
        said, _ = process.communicate()
    assert process.returncode == 1
    assert "chroot" in said, said
    assert (list(temporary.iterdir()), mounts(tmp_path)) == ([], [])
    assert sorted(path.name for path in base.iterdir()) == ["dev", "proc"]
    assert Path("/dev/null").is_char_device()
