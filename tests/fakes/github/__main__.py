"""Serves GitHub's stand-in as a program; the first line on stdout is its URL."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import Deferred

from tests.fakes.github.population import populate
from tests.fakes.github.server import GitHub

if TYPE_CHECKING:
    from typing import Any

    from twisted.python.failure import Failure


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until a signal; the first line on stdout is the URL."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.github", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--interface", default="127.0.0.1")
    parser.add_argument("--resources", type=int, default=0)
    parser.add_argument("--size", type=int, default=23_000, help="bytes of a resource")
    parser.add_argument("--users", type=int, default=0)
    parser.add_argument("--own", type=int, default=0, help="resources that differ by user")
    parser.add_argument("--lists", type=int, default=0)
    parser.add_argument("--items", type=int, default=100, help="items of a list")
    parser.add_argument("--limit", type=int, default=1_000_000_000, help="quota of a user")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each response")
    parser.add_argument("--log", type=int, default=100_000, help="exchanges that are kept")
    options = parser.parse_args(arguments)
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    github = GitHub(delay_s=options.delay)
    github.log = deque(maxlen=options.log)

    async def start() -> None:
        url = await github.listen(options.port, interface=options.interface)
        populate(
            github,
            resources=options.resources,
            users=options.users,
            size_bytes=options.size,
            own=options.own,
            lists=options.lists,
            items=options.items,
            limit=options.limit,
        )
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()

    def failed(failure: Failure) -> None:
        failure.printTraceback()
        cast("Any", reactor).stop()

    world = cast("Any", reactor)
    world.callWhenRunning(lambda: Deferred.fromCoroutine(start()).addErrback(failed))
    world.run()


if __name__ == "__main__":
    main()
