"""A place apart: what is mounted and what runs there is seen nowhere else, and goes with it.

A program in it has mounts and processes of its own. When whoever started it ends, in whatever way,
the kernel ends all that runs there, and nothing is left mounted. So its files can be removed from
outside, where nothing of the host's is below them.
"""

from __future__ import annotations

import os
import select
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

APART = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)

#: All kinds of mounts that the image's steps need.
_MOUNTS = (
    'mount -t tmpfs tmpfs "$1" && mkdir "$1/proc" && mount -t proc proc "$1/proc"'
    ' && mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"'
)


def _environment() -> dict[str, str]:
    """Return ours, in which programs are found that not everybody looks for."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}


def run_apart(command: Sequence[str], directory: Path) -> int:
    """Run a program in a place of its own, and return its status.

    When this returns or raises, nothing runs there any more. Ctrl-C does not get there.
    """
    with subprocess.Popen(
        [*APART, *command], cwd=directory, env=_environment(), start_new_session=True
    ) as process:
        try:
            return process.wait()
        finally:
            if process.poll() is None:
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a place, and return when its first process has ended: the kernel ends the others first.

    There is none yet if it has only just been made.
    """
    pid = process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    firsts = [os.pidfd_open(int(child)) for child in children]
    process.kill()
    for first in firsts:
        select.select([first], [], [])
        os.close(first)


def place() -> Path | None:
    """Return a directory in which files of devices work; None: there is none."""
    for parent in (tempfile.gettempdir(), "/var/tmp"):
        with tempfile.TemporaryDirectory(dir=parent, prefix="ghmirror-tried-") as folder:
            null = Path(folder) / "null"
            try:
                os.mknod(null, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
                null.write_text("nothing")
            except OSError:
                continue
        return Path(parent)
    return None


def obstacle() -> str | None:
    """Return why the kernel or the user does not allow such a place here; None: it is allowed.

    A program that is not installed is no such reason: that is an error.
    """
    if os.geteuid():
        return "no root"
    with tempfile.TemporaryDirectory(prefix="ghmirror-tried-") as folder:
        for what, command in (
            ("no right to make namespaces", (*APART[3:6], "true")),
            ("no right to mount", (*APART, "sh", "-c", _MOUNTS, "sh", folder)),
            ("no right to change the root", ("chroot", "/", "true")),
        ):
            tried = subprocess.run(
                command, capture_output=True, text=True, check=False, env=_environment()
            )
            if tried.returncode:
                return f"{what} ({tried.stderr.strip()})"
    return None if place() else "no place where files of devices work"
