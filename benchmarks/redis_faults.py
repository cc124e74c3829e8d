"""Failures and latency during faults of Redis, in comparison with the memory store.

    python -m benchmarks.redis_faults --rate 50 --resources 200

Three mirrors have stored the same resources: one on the memory store, two on one Redis, one of them
through a proxy. During each fault of Redis the mirror on memory and one on Redis receive the same
requests at the same times (an open loop). For each fault it prints, with a threshold:

failed  requests without a 200, to either mirror
delay   the largest difference in milliseconds to the same request to the mirror on memory, without
        the time in which either waited for a CPU; the threshold is twice the [redis] timeout
noisy   the same including that time, which depends on other load on the machine
back    seconds from the end of the fault until ``ghmirror_store_available 1``; "-": the mirror has
        used Redis throughout
paid    requests that count against GitHub's rate limit, although all resources were stored
growth  growth of the mirror's memory in MB

Finally many mirrors lose one Redis and reconnect at once, under load. It prints how long that
lasts, and how long Redis delays a PING meanwhile. The exit status is 1 if a threshold is exceeded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Self

from attrs import define, field, frozen

from benchmarks.cpu_wait import CpuWait
from benchmarks.delaying_proxy import DelayingProxy
from benchmarks.github_process import GitHubProcess
from benchmarks.load_generator import Load, Request, Tally, request_concurrently
from benchmarks.mirror_metrics import read_metric
from benchmarks.process_control import exit_cleanly_on_signals
from benchmarks.process_usage import resident
from benchmarks.thresholds import MIB, Thresholds
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

TIMEOUT_MS = 250
USERS = 4
BACK_S = 5.0
DEADLINE_S = 30.0
POLL_S = 0.02
RESET_AFTER_BYTES = (1, 10, 100, 1000)
ALL_AVAILABLE_S = 10.0
"""The threshold for the time until many mirrors are available again."""


def available(mirror: BlockingMirror) -> bool:
    """Return whether a mirror uses Redis."""
    return read_metric(mirror.admin_url, "ghmirror_store_available") == 1


def until_available(mirrors: Sequence[BlockingMirror]) -> float:
    """Return the seconds until all mirrors use Redis; infinity after a timeout."""
    began, left = time.monotonic(), list(mirrors)
    while left := [mirror for mirror in left if not available(mirror)]:
        if time.monotonic() - began > DEADLINE_S:
            return math.inf
        time.sleep(POLL_S)
    return time.monotonic() - began


@define(eq=False)
class Testbed:
    """Redis, the mirrors, and faults of Redis as contexts: each fault ends with its context."""

    github: GitHubProcess
    redis: RedisServer
    proxy: DelayingProxy
    password_file: Path
    options: argparse.Namespace
    stack: ExitStack
    memory: BlockingMirror = field(init=False)
    direct: BlockingMirror = field(init=False)
    proxied: BlockingMirror = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.memory = self.start(None)
        self.direct = self.start(self.redis.address)
        self.proxied = self.start(self.proxy.address)
        for mirror in (self.memory, self.direct, self.proxied):
            mirror.ready()

    def start(self, address: tuple[str, int] | None) -> BlockingMirror:
        """Start a mirror; it may not be ready yet."""
        sections: dict[str, dict[str, object]] = {
            "github": {"api_url": self.github.url},
            "log": {"access": "none"},
        }
        if address is not None:
            sections["cache"] = {"backend": "redis", "credential_secret": "of the benchmark"}
            sections["redis"] = {
                "url": "redis://{}:{}".format(*address),
                "password_path": self.password_file,
                "timeout": f"{TIMEOUT_MS}ms",
            }
        mirror = BlockingMirror(sections)
        self.stack.callback(mirror.kill)
        return mirror

    def requests(self) -> Iterator[Request]:
        """Return an endless sequence of requests, in the same order each time."""
        rng = random.Random(1)
        while True:
            yield (
                f"/repos/bench/repo-{rng.randrange(self.options.resources)}",
                f"token{rng.randrange(USERS)}",
            )

    def warm(self, mirrors: Sequence[BlockingMirror]) -> None:
        """Request each resource with each credential from mirrors."""
        everything = [
            (f"/repos/bench/repo-{resource}", f"token{user}")
            for resource in range(self.options.resources)
            for user in range(USERS)
        ]
        tally = Tally()

        async def run() -> None:
            await asyncio.gather(
                *(request_concurrently(mirror.url, everything, 16, tally) for mirror in mirrors)
            )

        asyncio.run(run())
        if tally.failed:
            raise SystemExit(f"warming failed: {dict(tally.statuses)}")

    # Faults.

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        self.redis.kill()
        yield
        self.redis.restart()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        self.redis.pause()
        yield
        self.redis.resume()

    @contextlib.contextmanager
    def _configured(self, **options: object) -> Iterator[None]:
        for name, value in options.items():
            self.redis.send("CONFIG", "SET", name.replace("_", "-"), str(value))
        yield
        self.redis.send("CONFIG", "SET", "maxmemory", "0")

    def out_of_memory(self) -> AbstractContextManager[None]:
        return self._configured(maxmemory_policy="noeviction", maxmemory=1)

    def evicting(self) -> AbstractContextManager[None]:
        shown = dict(
            line.split(b":", 1)
            for line in self.redis.send("INFO", "memory").splitlines()
            if b":" in line
        )
        room = int(shown[b"used_memory"]) - int(shown[b"used_memory_dataset"]) + 100_000
        return self._configured(maxmemory_policy="allkeys-lru", maxmemory=room)

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        self.redis.send("REPLICAOF", "127.0.0.1", "1")
        yield
        self.redis.send("REPLICAOF", "NO", "ONE")

    @contextlib.contextmanager
    def password_changed(self) -> Iterator[None]:
        with self.redis.client() as operator:
            self.redis.password = "another"
            operator.send("CONFIG", "SET", "requirepass", self.redis.password)
            operator.send("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            yield
        self.password_file.write_text(f"{self.redis.password}\n")

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        self.redis.send("SAVE")
        self.redis.restart(wait=False)
        self.redis.wait_for("Loading RDB")
        yield
        self.redis.send("CONFIG", "SET", "key-load-delay", "0")

    @contextlib.contextmanager
    def resetting(self) -> Iterator[None]:
        stop = threading.Event()

        def cut() -> None:
            number = 0
            while not stop.wait(0.1):
                self.proxy.reset_after(RESET_AFTER_BYTES[number % len(RESET_AFTER_BYTES)])
                number += 1

        cutting = threading.Thread(target=cut, daemon=True)
        cutting.start()
        yield
        stop.set()
        cutting.join()

    @contextlib.contextmanager
    def late_replies(self) -> Iterator[None]:
        self.proxy.delay(1.0)
        yield
        self.proxy.delay(0.0)

    @contextlib.contextmanager
    def black_hole(self) -> Iterator[None]:
        self.proxy.hold(enabled=True)
        yield
        self.proxy.hold(enabled=False)


@frozen
class Fault:
    """A fault as a context, its duration, and whether it is one of the proxy."""

    name: str
    inject: Callable[[Testbed], AbstractContextManager[None]]
    seconds: float = 4.0
    proxied: bool = False


FAULTS = (
    Fault("killed (-9), restarted empty", Testbed.killed),
    Fault("stopped (SIGSTOP) for 10 s", Testbed.stopped, 10.0),
    Fault("maxmemory reached, noeviction", Testbed.out_of_memory),
    Fault("allkeys-lru, hardly any room", Testbed.evicting),
    Fault("read-only (REPLICAOF)", Testbed.read_only),
    Fault("reset half-way through replies", Testbed.resetting, proxied=True),
    Fault("replies 1 s late", Testbed.late_replies, 5.0, proxied=True),
    Fault("no replies (black hole)", Testbed.black_hole, 5.0, proxied=True),
    Fault("LOADING", Testbed.loading),
    Fault("password changed", Testbed.password_changed),  # last: a restart restores it
)


@define(eq=False)
class FaultRun:
    """Injects faults in turn, and compares the results with thresholds."""

    testbed: Testbed
    options: argparse.Namespace
    thresholds: Thresholds = field(factory=Thresholds)

    def head(self) -> None:
        names = ("requests", "failed", "delay ms", "noisy ms", "back s", "paid", "growth MB")
        limits = ("", "0", f"{2 * TIMEOUT_MS}", "", f"{BACK_S:g}", "0", "")
        for first, rest in (("fault of Redis", names), ("threshold", limits)):
            print(f"{first:34}" + "".join(f"{each:>10}" for each in rest))

    def run(self, fault: Fault) -> None:
        """Inject one fault under load."""
        testbed = self.testbed
        mirror = testbed.proxied if fault.proxied else testbed.direct
        if math.isinf(until_available([mirror])):
            raise SystemExit(f"before {fault.name!r} the mirror does not use Redis")
        testbed.github.control("reset_counts")
        before = resident(mirror.pid)
        left = False
        urls = [testbed.memory.url, mirror.url]
        with (
            CpuWait((testbed.memory.pid, mirror.pid)) as cpu_wait,
            Load(urls, testbed.requests, self.options.rate) as load,
        ):
            time.sleep(1.0)
            with fault.inject(testbed):
                until = time.monotonic() + fault.seconds
                while time.monotonic() < until:
                    left = left or not available(mirror)
                    time.sleep(POLL_S)
            left = left or not available(mirror)
            back = until_available([mirror])
            time.sleep(1.0)
        paid = testbed.github.counts()["total_paid"]
        tallies = [load.tallies[url] for url in urls]
        growth = (resident(mirror.pid) - before) / MIB
        self.judge(
            fault.name,
            tallies,
            cpu_wait,
            back=back if left else math.nan,
            paid=paid,
            growth=growth,
        )

    @staticmethod
    def own_time(pid: int, completed: tuple[float, float], cpu_wait: CpuWait) -> float:
        """Return the seconds of a request without the time in which the mirror waited for a CPU."""
        due, seconds = completed
        return seconds - cpu_wait.during(pid, due, due + seconds)

    def judge(
        self,
        name: str,
        tallies: Sequence[Tally],
        cpu_wait: CpuWait,
        *,
        back: float,
        paid: int,
        growth: float,
    ) -> None:
        """Print the results, and compare them with the thresholds."""
        on_memory, on_redis = (tally.completed for tally in tallies)
        pids = cpu_wait.pids
        delays: dict[int, float] = {}
        noisy = -math.inf
        for n in sorted(on_redis.keys() & on_memory.keys()):
            both = on_memory[n], on_redis[n]
            without, total = (
                self.own_time(*each, cpu_wait) for each in zip(pids, both, strict=True)
            )
            delays[n] = 1000 * (total - without)
            noisy = max(noisy, 1000 * (both[1][1] - both[0][1]))
        delay = max(delays.values(), default=math.inf)
        failed = sum(tally.failed for tally in tallies)
        sent = sum(tally.statuses.total() for tally in tallies)
        judged = (
            ("failed requests", failed, 0),
            ("largest delay (ms)", delay, 2 * TIMEOUT_MS),
            ("seconds until it used Redis again", back, math.nan if math.isnan(back) else BACK_S),
            ("paid", paid, 0),
        )
        verdicts = [
            self.thresholds.verdict(f"{name}: {what}", value, None if math.isnan(most) else most)
            for what, value, most in judged
        ]
        shown = "-" if math.isnan(back) else f"{back:.2f}"
        word = "MISSED" if "MISSED" in verdicts else "holds"
        print(
            f"{name:34}{sent:>10}{failed:>10}{delay:>10.0f}{noisy:>10.0f}{shown:>10}{paid:>10}{growth:>10.1f}"
            f"  {word}",
            flush=True,
        )
        long = [
            f"{n / self.options.rate:.2f} s: {delays[n]:.0f}"
            for n in sorted(delays)
            if delays[n] > 2 * TIMEOUT_MS
        ]
        if long:
            print(f"    delays (ms) above the threshold, by time of request: {', '.join(long)}")
        if failed:
            print(f"    {[dict(tally.statuses) for tally in tallies]}")

    def reconnect_all(self) -> None:
        """Kill and restart the Redis of many mirrors under load."""
        testbed, count = self.testbed, self.options.mirrors
        with RedisServer(password=testbed.redis.password) as redis:
            mirrors = [testbed.start(redis.address) for _ in range(count)]
            for mirror in mirrors:
                mirror.ready()
            if math.isinf(until_available(mirrors)):
                raise SystemExit("not all mirrors use Redis")
            testbed.warm(mirrors[:1])
            testbed.github.control("reset_counts")
            rate = self.options.rate / count
            with Load([mirror.url for mirror in mirrors], testbed.requests, rate) as load:
                time.sleep(2.0)
                redis.kill()
                time.sleep(3.0)
                redis.restart()
                with Pings(redis) as pings:
                    back = until_available(mirrors)
                    connections = pings.until_connected(4 * count)
                    time.sleep(1.0)
            failed = sum(tally.failed for tally in load.tallies.values())
            for mirror in mirrors:
                mirror.stop()
        sent = sum(tally.statuses.total() for tally in load.tallies.values())
        print(f"\n{4 * count} connections of {count} mirrors are reopened at once")
        thresholds = self.thresholds
        thresholds.figure("failed requests", failed, most=0, note=f"of {sent}")
        thresholds.figure("seconds until all mirrors use Redis", back, "s", most=ALL_AVAILABLE_S)
        thresholds.figure("seconds until all connections are open", connections, "s")
        slowest = 1000 * max(pings.seconds, default=math.inf)
        note = f"of {len(pings.seconds)}"
        thresholds.figure("slowest reply to a PING", slowest, "ms", most=TIMEOUT_MS, note=note)


class Pings:
    """Sends PING to Redis continuously, from a thread; it runs inside a ``with``."""

    def __init__(self, redis: RedisServer) -> None:
        self.seconds: list[float] = []
        self._began = time.monotonic()
        self._redis = redis
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ping, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ping(self) -> None:
        with self._redis.client() as client:
            while not self._stop.wait(0.002):
                began = time.perf_counter()
                client.send("PING")
                self.seconds.append(time.perf_counter() - began)

    def until_connected(self, count: int) -> float:
        """Return the seconds from the start until there were *count* connections."""
        with self._redis.client() as client:
            while time.monotonic() - self._began < DEADLINE_S:
                shown: bytes = client.send("INFO", "clients")
                # this one, and the one that pings
                if int(shown.partition(b"connected_clients:")[2].split()[0]) - 2 >= count:
                    return time.monotonic() - self._began
                time.sleep(POLL_S)
        return math.inf


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.redis_faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rate", type=float, default=50, help="requests/s to each mirror")
    parser.add_argument("--resources", type=int, default=200)
    parser.add_argument("--delay", type=float, default=50, help="ms until GitHub responds")
    parser.add_argument("--mirrors", type=int, default=25, help="that reconnect at once; 0: none")
    parser.add_argument("--only", default="", help="only faults whose names contain this")
    options = parser.parse_args(arguments)
    exit_cleanly_on_signals()
    with ExitStack() as stack:
        github = stack.enter_context(
            GitHubProcess(
                resources=options.resources, users=USERS, delay=options.delay / 1000, log=0
            )
        )
        redis = stack.enter_context(
            RedisServer(
                password="one",
                options=[
                    ("key-load-delay", "100000"),
                    ("loading-process-events-interval-bytes", "1024"),
                    ("rdbcompression", "no"),
                ],
            )
        )
        password_file = redis.directory / "password"
        password_file.write_text("one\n")
        proxy = stack.enter_context(DelayingProxy(redis.address))
        testbed = Testbed(github, redis, proxy, password_file, options, stack)
        testbed.warm([testbed.memory, testbed.direct, testbed.proxied])
        faults = FaultRun(testbed, options)
        print(
            f"{options.resources} resources, {USERS} users, {options.rate:g} requests/s to each "
            f"mirror; GitHub responds after {options.delay:g} ms; [redis] timeout {TIMEOUT_MS} ms\n"
        )
        faults.head()
        for fault in FAULTS:
            if options.only in fault.name:
                faults.run(fault)
        if options.mirrors:
            faults.reconnect_all()
        return faults.thresholds.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
