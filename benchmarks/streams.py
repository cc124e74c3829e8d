"""The cost of streams in both directions for a mirror: memory, and files on disk.

    python -m benchmarks.streams --size 200

100 uploads of 200 MB at once are sent through a real mirror to a server that reads as fast as it
can. 8 clients request JSON of 40 MB, which GitHub sends as 40 kB of gzip, and read nothing. Then
both at once. For each it prints

- the peak growth of the mirror's memory;
- the files that it opened, of which there must be none: no content is spooled to disk;
- the duration, and megabytes in a second, of the uploads.

By default the uploads are smaller than the thresholds are for, so that it lasts seconds. The exit
status is 1 if a threshold is exceeded, or an upload failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from benchmarks.process_control import exit_cleanly_on_signals
from benchmarks.thresholds import MIB, Thresholds
from tests.harness.bulk_streams import FarEnd, Readers, upload, watched
from tests.harness.running import BlockingMirror

FULL = (100, 200)
MOST_MIB = 64


def measure(thresholds: Thresholds, what: str, uploads: int, size: int, readers: int) -> None:
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
            thresholds.figure("memory grew by", seen.grown / MIB, "MiB", most=MOST_MIB)
            thresholds.figure("files opened", len(seen.files), most=0, note=", ".join(seen.files))
            if uploads:
                thresholds.figure("failed uploads", len(failed), most=0, note=f"of {uploads}")
                thresholds.figure("not received completely", uploads + 1 - github.taken, most=0)
                thresholds.figure("seconds", seconds, "s")
                thresholds.figure("megabytes in a second", uploads * size / seconds / 1e6, "MB")


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
    exit_cleanly_on_signals()
    full = (options.uploads, options.size) >= FULL
    which = "the full run" if full else "NOT the full run: that is of {} and {} MB".format(*FULL)
    print(f"{options.uploads} uploads of {options.size:g} MB ({which})")
    thresholds, uploads, size = Thresholds(), options.uploads, int(options.size * 1e6)
    measure(thresholds, "uploads", uploads, size, 0)
    measure(thresholds, "clients that read nothing", 0, size, options.readers)
    measure(thresholds, "both at once", uploads, size, options.readers)
    return thresholds.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
