"""What hostile clients, and responses that are meant to do harm, cost a mirror and its clients.

    python -m benchmarks.hostile

Attacks go through real mirrors, one after the other: unread bombs that unpack to 250 MB; 200
readers of one stored content of 7.5 MB that read nothing, by one name of the mirror and by 200;
content that can't be stored; clients that go away; content that never ends; 3,000 connections with
heads that never end, with made-up tokens, and with nothing. Printed are, of each,

- by how much the mirror's memory grew at most, and what of it stayed;
- the descriptors that stayed;
- how long another client waits at most in 99 of 100 cases for its small responses, before and
  meanwhile, and how many it did not get.

The exit status is 1 if a bar is missed. The default is to take a tenth of what the bars are for.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from benchmarks.bars import MIB, Bars
from benchmarks.driving import end_in_order
from tests.harness.hostile import ATTACKS, BadServer, Victim, opened, resident, sections, settled
from tests.harness.running import BlockingMirror
from tests.harness.streaming import watched

MOST_MIB = 64
CALM_S = 2.0
#: What is stored by then, and what the allocator keeps of what was freed; it does not add up.
STAYS_MIB = 64


def _p99_ms(seconds: list[float]) -> float:
    return 1000 * sorted(seconds)[int(0.99 * (len(seconds) - 1))]


def measure(bars: Bars, name: str, times: int, mirror: BlockingMirror) -> None:
    """Measure one attack, and print the figures."""
    print(f"\n{name}, {times} times")
    attack, _, _ = ATTACKS[name]
    with Victim(mirror.url) as calm:
        time.sleep(CALM_S)
    start, where = resident(mirror.pid), (mirror.pid, mirror.url, mirror.admin_url)
    before = opened(*where)
    with Victim(mirror.url) as victim, watched(mirror.pid) as seen:
        began = time.monotonic()
        statuses = attack(mirror.url, times)
        seconds = time.monotonic() - began
    after = settled(*where, before)
    bars.figure("memory grew by", seen.grown / MIB, "MiB", most=MOST_MIB)
    bars.figure("memory that stayed", (resident(mirror.pid) - start) / MIB, "MiB", most=STAYS_MIB)
    bars.figure("bytes that budgets hold at the end", after.held, most=0)
    left = max(0, after.descriptors - before.descriptors)
    bars.figure("descriptors that stayed", left, most=0)
    bars.figure("p99 of another client, before", _p99_ms(calm.seconds), "ms")
    bars.figure("p99 of another client, meanwhile", _p99_ms(victim.seconds), "ms")
    note = ", ".join(map(str, Counter(victim.failed).most_common(3)))
    bars.figure("its failed requests", len(victim.failed), most=0, note=note)
    answered = ", ".join(f"{status}: {n}" for status, n in sorted(Counter(statuses).items()))
    bars.figure("seconds", seconds, "s", note=answered)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hostile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--full", action="store_true", help="as often as the bars are for")
    parser.add_argument("--together", action="store_true", help="all against one mirror")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=", ".join(ATTACKS))
    options = parser.parse_args(arguments)
    end_in_order()
    bars = Bars()
    names = options.attacks or list(ATTACKS)
    groups = [names] if options.together else [[name] for name in names]
    with BadServer() as github:
        for group in groups:
            with BlockingMirror(sections(github.url)) as mirror:
                for name in group:
                    _, full, short = ATTACKS[name]
                    measure(bars, name, full if options.full else short, mirror)
    return bars.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
