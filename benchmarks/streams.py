"""What streams in both directions cost a mirror: memory, and files on disk.

    python -m benchmarks.streams --size 200

Uploads of 200 MB, 100 at once, go through a real mirror to a server that takes them as fast as it
can; 8 clients ask for JSON of 40 MB, which GitHub sends as 40 kB of gzip, and read nothing of it;
then both at once. Printed are, of each,

- by how much the mirror's memory grew at most;
- the files that it opened, which are to be none: neither end is spooled;
- seconds, and megabytes in a second, of the uploads.

The default is to upload less than the bars are for, so that it takes seconds. The exit status is 1
if a bar is missed, or an upload failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from benchmarks.bars import MIB, Bars
from benchmarks.driving import end_in_order
from tests.harness.running import BlockingMirror
from tests.harness.streaming import FarEnd, Readers, upload, watched

FULL = (100, 200)
MOST_MIB = 64


def measure(bars: Bars, what: str, uploads: int, size: int, readers: int) -> None:
    """Measure one case with a mirror of its own, and print the figures."""
    sections = {"log": {"access": "none"}}
    with FarEnd() as github:
        sections["github"] = {"api_url": github.url}
        with BlockingMirror(sections) as mirror:
            upload(mirror.url, count=1, size=MIB)
            print(f"\n{what}")
            with watched(mirror.pid) as seen, Readers(mirror.url, readers):
                began = time.monotonic()
                failed = upload(mirror.url, count=uploads, size=size)
                seconds = time.monotonic() - began
            bars.figure("memory grew by", seen.grown / MIB, "MiB", most=MOST_MIB)
            bars.figure("files opened", len(seen.files), most=0, note=", ".join(seen.files))
            if uploads:
                bars.figure("failed uploads", len(failed), most=0, note=f"of {uploads}")
                bars.figure("not taken whole", uploads + 1 - github.taken, most=0)
                bars.figure("seconds", seconds, "s")
                bars.figure("megabytes in a second", uploads * size / seconds / 1e6, "MB")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.streams",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--uploads", type=int, default=100, help="uploads at once")
    parser.add_argument("--size", type=float, default=10, help="megabytes of each")
    parser.add_argument("--readers", type=int, default=8, help="clients that read nothing")
    options = parser.parse_args(arguments)
    end_in_order()
    full = (options.uploads, options.size) >= FULL
    which = "the full run" if full else "NOT the full run: that is of {} and {} MB".format(*FULL)
    print(f"{options.uploads} uploads of {options.size:g} MB ({which})")
    bars, uploads, size = Bars(), options.uploads, int(options.size * 1e6)
    measure(bars, "uploads", uploads, size, 0)
    measure(bars, "clients that read nothing", 0, size, options.readers)
    measure(bars, "both at once", uploads, size, options.readers)
    return bars.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
