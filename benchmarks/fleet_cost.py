"""Rate-limited requests of a fleet: many mirrors, one Redis, many credentials.

    python -m benchmarks.fleet_cost --replicas 20 --credentials 20 --resources 30

Each credential requests each resource from each mirror, all of them at once. For each step it
prints the requests that count against GitHub's rate limit (paid), the expected number of those,
and the free ones, as counted by GitHub's stand-in. The exit status is 1 if a step cost anything
else, or if a request failed.

Redis and the stand-in would have their own machines; here they have a higher priority than the
mirrors, if the program runs as root. With many more mirrors than cores each mirror gets replies of
Redis late; its timeout must then be longer (``--timeout``).
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

from benchmarks.github_process import GitHubProcess
from benchmarks.load_generator import Tally, request_sequentially
from benchmarks.process_control import raise_priority
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

LISTED = 8
"""The length of the recency list, which bounds the validators for a token without a grant."""


@define
class Fleet:
    """Mirrors with a stand-in for GitHub, and the load on them."""

    github: GitHubProcess
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
        """Replace the token of each user, as GitHub's Apps do every hour."""
        self.generation += 1
        for user in range(self.users):
            self.github.control("token", token=self.token(user), login=f"user{user}")

    async def _load(self, targets: list[str], tally: Tally, mirrors: list[BlockingMirror]) -> None:
        rng = random.Random(1)
        loads = []
        for mirror in mirrors:
            for user in range(self.users):
                order = rng.sample(targets, len(targets)) if self.options.shuffle else targets
                loads.append(request_sequentially(mirror.url, self.token(user), order, tally))
        await asyncio.gather(*loads)

    def load(self, targets: list[str], mirrors: list[BlockingMirror] | None = None) -> Tally:
        """Request each target from each mirror with each credential, all at once."""
        tally = Tally()
        asyncio.run(self._load(targets, tally, self.mirrors if mirrors is None else mirrors))
        return tally

    def step(self, name: str, expected: int | None, send: Callable[[], Tally]) -> None:
        """Run a step, and print its cost."""
        self.github.control("reset_counts")
        began = perf_counter()
        tally = send()
        seconds = perf_counter() - began
        counts = self.github.counts()
        paid = counts["total_paid"]
        bad = (expected is not None and paid != expected) or tally.failed
        self.wrong += bool(bad)
        sys.stdout.write(
            f"{name:34}{sum(tally.statuses.values()):>9}{paid:>8}"
            f"{'-' if expected is None else expected:>10}{counts['total_free']:>9}"
            f"{tally.failed:>8}{seconds:>9.1f}{'  WRONG' if bad else ''}\n"
        )
        if bad:
            sys.stdout.write(f"    {dict(tally.statuses)} {dict(tally.outcomes)}\n")
        sys.stdout.flush()

    def restart_all(self) -> Tally:
        """Restart the mirrors one after another, and request each target from each."""
        tally = Tally()
        for place, mirror in enumerate(self.mirrors):
            if mirror.stop() != 0:
                tally.statuses["did not stop"] += 1
            self.mirrors[place] = self.start()
            self.mirrors[place].ready()
            asyncio.run(self._load(self.shared + self.own, tally, [self.mirrors[place]]))
        return tally

    def change(self, word: str) -> None:
        """Change each resource that is equal for all users."""
        for path in self.shared:
            self.github.control("put", path=path, content={"path": path, "now": word})

    def run(self) -> None:
        """Run all steps."""
        everything = self.shared + self.own
        by_user = len(self.own) * self.users
        self.step("cold, the same for all", len(self.shared), lambda: self.load(self.shared))
        self.step("cold, different by user", by_user, lambda: self.load(self.own))
        self.step("warm", 0, lambda: self.load(everything))
        self.change("once")
        first = self.mirrors[:1]
        changed = len(self.shared)
        self.step("changed, one mirror polls", None, lambda: self.load(self.shared, first))
        self.step("changed, then all mirrors", 0, lambda: self.load(self.shared))
        self.change("twice")
        self.step("changed, polled in turn", changed, self.in_turn)
        self.rotate()
        self.step("tokens rotated, the same for all", 0, lambda: self.load(self.shared))
        if self.users <= LISTED:
            self.step("tokens rotated, different by user", 0, lambda: self.load(self.own))
        else:
            self.step("tokens rotated, different by user", None, lambda: self.load(self.own))
        self.step("rolling restart", 0, self.restart_all)
        self.redis.kill()
        self.step("Redis unavailable", 0, lambda: self.load(everything))
        self.redis.restart()
        raise_priority(self.redis.pid)
        self.step("Redis available, empty", 0, lambda: self.load(everything))
        self.step("again", 0, lambda: self.load(everything))

    def in_turn(self) -> Tally:
        """Send the requests of one credential after another, each to another mirror."""
        tally = Tally()

        async def run() -> None:
            for user in range(self.users):
                mirror = self.mirrors[user % len(self.mirrors)]
                await request_sequentially(mirror.url, self.token(user), self.shared, tally)

        asyncio.run(run())
        return tally


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet_cost", description=__doc__)
    parser.add_argument("--replicas", type=int, default=20)
    parser.add_argument("--credentials", type=int, default=20)
    parser.add_argument("--resources", type=int, default=30, help="the same for all users")
    parser.add_argument("--own", type=int, default=5, help="resources that differ by user")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds until GitHub responds")
    parser.add_argument("--timeout", default="250ms", help="[redis] timeout")
    parser.add_argument("--shuffle", action="store_true", help="each client in an order of its own")
    options = parser.parse_args(arguments)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        github = stack.enter_context(
            GitHubProcess(
                resources=options.resources,
                users=options.credentials,
                own=options.own,
                delay=options.delay,
                log=0,
            )
        )
        redis = stack.enter_context(RedisServer())
        for pid in (github.pid, redis.pid):
            raise_priority(pid)
        fleet = Fleet(github, redis, options, stack)
        fleet.mirrors += [fleet.start() for _ in range(options.replicas)]
        for mirror in fleet.mirrors:
            mirror.ready()
        sys.stdout.write(
            f"{options.replicas} mirrors, {options.credentials} credentials, "
            f"{options.resources} resources equal for all, {options.own} different by user; "
            f"GitHub: {options.delay * 1000:.0f} ms, [redis] timeout {options.timeout}\n"
            f"{'step':34}{'requests':>9}{'paid':>8}{'expected':>10}{'free':>9}"
            f"{'failed':>8}{'seconds':>9}\n"
        )
        fleet.run()
    return int(fleet.wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
