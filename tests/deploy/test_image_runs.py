"""The image's steps run in a Debian of their own, and so does the mirror in what they make.

This takes a minute, and a file of its own, so that others are run beside it.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.deploy.debian import started

image = partial(started, "tests.deploy.image", "the image's steps in a Debian of their own")


def mounts(below: Path) -> list[str]:
    """Return what is mounted below a directory, wherever any process sees it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        with suppress(OSError):  # it has just ended
            found += [line for line in path.read_text().splitlines() if str(below) in line]
    return found


def test_image_builds_and_serves() -> None:
    """It is built, its files are right, and it starts, answers and ends; see `tests.deploy.image`.

    What it said is shown if it fails.
    """
    with image() as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert output.endswith("It ends well\n"), output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """An interrupted build leaves no file, no mount and no process."""
    with image(temporary=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Debian")
        process.send_signal(number)
        process.communicate()
    assert process.returncode != 0
    assert (list(tmp_path.iterdir()), mounts(tmp_path)) == ([], [])


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    """The error names the failed step; the base and the devices of the machine remain."""
    base, temporary = tmp_path / "base", tmp_path / "temporary"
    for path in (base / "proc", base / "dev", temporary):
        path.mkdir(parents=True)
    with image(str(base), temporary=temporary) as process:
        output, _ = process.communicate()
    assert process.returncode == 1
    assert "chroot" in output, output
    assert (list(temporary.iterdir()), mounts(tmp_path)) == ([], [])
    assert sorted(path.name for path in base.iterdir()) == ["dev", "proc"]
    assert Path("/dev/null").is_char_device()
