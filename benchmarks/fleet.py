"""What a fleet pays: many mirrors, one Redis, many credentials; GitHub's stand-in counts.

    python -m benchmarks.fleet --replicas 20 --credentials 20 --resources 30

Each credential asks each mirror for each resource, all of them at once. Of each step it prints
how many questions GitHub was paid for, how many were free, and how many had to be paid. The exit
status is 1 if any step paid something else, or any request failed.

Redis and the stand-in would have machines of their own; here they go before the mirrors, where
that is allowed (root). Many more mirrors than cores make Redis look slow to each of them; its
timeout has to be longer then (``--timeout``).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from time import perf_counter

from attrs import define, field

from benchmarks.driving import StandIn, Tally, poll, start_first
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

LISTED = 8
"""How many representations of a key are offered to a token that nothing is known of."""


@define
class Fleet:
    """Mirrors before a stand-in, and what clients ask of them."""

    github: StandIn
    redis: RedisServer
    options: argparse.Namespace
    stack: ExitStack
    mirrors: list[BlockingMirror] = field(factory=list)
    generation: int = 0
    wrong: int = 0

    def start(self) -> BlockingMirror:
        """Start a mirror; it may not be ready yet."""
        host, port = self.redis.address
        sections = {
            "github": {"api_url": self.github.url},
            "cache": {"backend": "redis", "credential_secret": "of the benchmark"},
            "redis": {"url": f"redis://{host}:{port}", "timeout": self.options.timeout},
            "log": {"access": "none"},
        }
        mirror = BlockingMirror(sections)
        self.stack.callback(mirror.kill)
        return mirror

    @property
    def users(self) -> int:
        credentials: int = self.options.credentials
        return credentials

    @property
    def shared(self) -> list[str]:
        return [f"/repos/bench/repo-{number}" for number in range(self.options.resources)]

    @property
    def own(self) -> list[str]:
        return [f"/own/{number}" for number in range(self.options.own)]

    def token(self, user: int) -> str:
        return f"token{user}" if not self.generation else f"token{user}-{self.generation}"

    def rotate(self) -> None:
        """Give each user a new token, as GitHub's apps do every hour."""
        self.generation += 1
        for user in range(self.users):
            self.github.control("token", token=self.token(user), login=f"user{user}")

    async def _all(self, targets: list[str], tally: Tally, mirrors: list[BlockingMirror]) -> None:
        rng = random.Random(1)
        asked = []
        for mirror in mirrors:
            for user in range(self.users):
                order = rng.sample(targets, len(targets)) if self.options.shuffle else targets
                asked.append(poll(mirror.url, self.token(user), order, tally))
        await asyncio.gather(*asked)

    def poll(self, targets: list[str], mirrors: list[BlockingMirror] | None = None) -> Tally:
        """Have each credential ask each mirror for each target, all at once."""
        tally = Tally()
        asyncio.run(self._all(targets, tally, self.mirrors if mirrors is None else mirrors))
        return tally

    def step(self, name: str, expected: int | None, send: Callable[[], Tally]) -> None:
        """Do a step, and print what it cost."""
        self.github.control("reset_counts")
        began = perf_counter()
        tally = send()
        took = perf_counter() - began
        counts = self.github.counts()
        paid = counts["total_paid"]
        bad = (expected is not None and paid != expected) or tally.failed
        self.wrong += bool(bad)
        sys.stdout.write(
            f"{name:34}{sum(tally.statuses.values()):>9}{paid:>8}"
            f"{'-' if expected is None else expected:>10}{counts['total_free']:>9}"
            f"{tally.failed:>8}{took:>9.1f}{'  WRONG' if bad else ''}\n"
        )
        if bad:
            sys.stdout.write(f"    {dict(tally.statuses)} {dict(tally.outcomes)}\n")
        sys.stdout.flush()

    def restart_all(self) -> Tally:
        """Restart the mirrors one after the other, and ask each for everything."""
        tally = Tally()
        for place, mirror in enumerate(self.mirrors):
            if mirror.stop() != 0:
                tally.statuses["did not stop"] += 1
            self.mirrors[place] = self.start()
            self.mirrors[place].ready()
            asyncio.run(self._all(self.shared + self.own, tally, [self.mirrors[place]]))
        return tally

    def change(self, word: str) -> None:
        """Change each resource that is the same for all."""
        for path in self.shared:
            self.github.control("put", path=path, content={"path": path, "now": word})

    def run(self) -> None:
        """Go through all steps."""
        everything = self.shared + self.own
        by_user = len(self.own) * self.users
        self.step("cold, the same for all", len(self.shared), lambda: self.poll(self.shared))
        self.step("cold, different by user", by_user, lambda: self.poll(self.own))
        self.step("warm", 0, lambda: self.poll(everything))
        self.change("once")
        first = self.mirrors[:1]
        changed = len(self.shared)
        self.step("changed, one mirror polls", None, lambda: self.poll(self.shared, first))
        self.step("changed, then all poll", 0, lambda: self.poll(self.shared))
        self.change("twice")
        self.step("changed, polled in turn", changed, self.in_turn)
        self.rotate()
        self.step("tokens rotated, the same for all", 0, lambda: self.poll(self.shared))
        if self.users <= LISTED:
            self.step("tokens rotated, different by user", 0, lambda: self.poll(self.own))
        else:
            self.step("tokens rotated, different by user", None, lambda: self.poll(self.own))
        self.step("rolling restart", 0, self.restart_all)
        self.redis.kill()
        self.step("Redis away", 0, lambda: self.poll(everything))
        self.redis.restart()
        start_first(self.redis.pid)
        self.step("Redis back, empty", 0, lambda: self.poll(everything))
        self.step("again", 0, lambda: self.poll(everything))

    def in_turn(self) -> Tally:
        """Have one credential after the other poll, each at another mirror."""
        tally = Tally()

        async def go() -> None:
            for user in range(self.users):
                mirror = self.mirrors[user % len(self.mirrors)]
                await poll(mirror.url, self.token(user), self.shared, tally)

        asyncio.run(go())
        return tally


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--replicas", type=int, default=20)
    parser.add_argument("--credentials", type=int, default=20)
    parser.add_argument("--resources", type=int, default=30, help="the same for all users")
    parser.add_argument("--own", type=int, default=5, help="resources that differ by user")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds that GitHub takes")
    parser.add_argument("--timeout", default="250ms", help="[redis] timeout")
    parser.add_argument("--shuffle", action="store_true", help="each client in an order of its own")
    options = parser.parse_args(arguments)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        github = stack.enter_context(
            StandIn(
                resources=options.resources,
                users=options.credentials,
                own=options.own,
                delay=options.delay,
                log=0,
            )
        )
        redis = stack.enter_context(RedisServer())
        for pid in (github.pid, redis.pid):
            start_first(pid)
        fleet = Fleet(github, redis, options, stack)
        fleet.mirrors += [fleet.start() for _ in range(options.replicas)]
        for mirror in fleet.mirrors:
            mirror.ready()
        sys.stdout.write(
            f"{options.replicas} mirrors, {options.credentials} credentials, "
            f"{options.resources} resources the same for all, {options.own} different by user; "
            f"GitHub takes {options.delay * 1000:.0f} ms, [redis] timeout {options.timeout}\n"
            f"{'step':34}{'requests':>9}{'paid':>8}{'expected':>10}{'free':>9}"
            f"{'failed':>8}{'seconds':>9}\n"
        )
        fleet.run()
    return int(fleet.wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
