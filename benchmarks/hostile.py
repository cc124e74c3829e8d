"""The cost of hostile clients and of harmful responses for a mirror and its other clients.

    python -m benchmarks.hostile

Real mirrors are attacked in turn: unread decompression bombs of 250 MB; 200 clients that request
a stored content of 7.5 MB and read nothing, with one ``Host`` and with 200; content that cannot be
stored; clients that disconnect; endless content; 3,000 connections with endless heads, with made-up
tokens, and without a request. For each attack it prints

- the peak growth of the mirror's memory, and the growth that remains;
- the descriptors that remain;
- the 99th percentile of the latency of another client's small requests, before the attack and
  during it, and the number of its failed requests.

The exit status is 1 if a threshold is exceeded. By default the load is a tenth of that of the
thresholds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from benchmarks.process_control import exit_cleanly_on_signals
from benchmarks.thresholds import MIB, Thresholds
from tests.harness.attacks import ATTACKS, BadServer, Victim, opened, resident, sections, settled
from tests.harness.bulk_streams import watched
from tests.harness.running import BlockingMirror

MOST_MIB = 64
CALM_S = 2.0
#: For stored records, and for freed memory that the allocator retains; it does not accumulate.
REMAINING_MIB = 64


def _p99_ms(seconds: list[float]) -> float:
    return 1000 * sorted(seconds)[int(0.99 * (len(seconds) - 1))]


def measure(thresholds: Thresholds, name: str, times: int, mirror: BlockingMirror) -> None:
    """Measure one attack, and print the figures."""
    print(f"\n{name}, {times} times")
    attack, _, _ = ATTACKS[name]
    with Victim(mirror.url) as calm:
        time.sleep(CALM_S)
    start, process = resident(mirror.pid), (mirror.pid, mirror.url, mirror.admin_url)
    before = opened(*process)
    with Victim(mirror.url) as victim, watched(mirror.pid) as seen:
        began = time.monotonic()
        statuses = attack(mirror.url, times)
        seconds = time.monotonic() - began
    after = settled(*process, before)
    thresholds.figure("memory grew by", seen.grown / MIB, "MiB", most=MOST_MIB)
    thresholds.figure(
        "memory that remains", (resident(mirror.pid) - start) / MIB, "MiB", most=REMAINING_MIB
    )
    thresholds.figure("bytes reserved in budgets at the end", after.held, most=0)
    left = max(0, after.descriptors - before.descriptors)
    thresholds.figure("descriptors that remain", left, most=0)
    thresholds.figure("p99 of another client, before", _p99_ms(calm.seconds), "ms")
    thresholds.figure("p99 of another client, during it", _p99_ms(victim.seconds), "ms")
    note = ", ".join(map(str, Counter(victim.failed).most_common(3)))
    thresholds.figure("its failed requests", len(victim.failed), most=0, note=note)
    responses = ", ".join(f"{status}: {n}" for status, n in sorted(Counter(statuses).items()))
    thresholds.figure("seconds", seconds, "s", note=responses)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hostile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--full", action="store_true", help="the load of the thresholds")
    parser.add_argument("--together", action="store_true", help="all attacks on one mirror")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=", ".join(ATTACKS))
    options = parser.parse_args(arguments)
    exit_cleanly_on_signals()
    thresholds = Thresholds()
    names = options.attacks or list(ATTACKS)
    groups = [names] if options.together else [[name] for name in names]
    with BadServer() as github:
        for group in groups:
            with BlockingMirror(sections(github.url)) as mirror:
                for name in group:
                    _, full, short = ATTACKS[name]
                    measure(thresholds, name, full if options.full else short, mirror)
    return thresholds.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
