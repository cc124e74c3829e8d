"""What clients notice while Redis fails, beside a mirror on memory that is asked the same.

    python -m benchmarks.faults --rate 50 --resources 200

Three mirrors, one on the memory store, two on one Redis (one of them through a proxy), know the
same resources. While one fault after the other happens to Redis, the one on memory and one on Redis
are asked the same at the same times, whether or not earlier questions have been answered.
Of each fault it prints, each beside its bar:

failed  requests that were not answered with 200, to any of the two
delay   by how much a request took longest, in milliseconds, beyond the same one to the mirror on
        memory, without the time that either of them waited for a CPU meanwhile; the bar is twice
        the [redis] timeout
noisy   the same with that time, which on a busy machine tells of the machine
back    seconds from the fault's end until the mirror shows ``ghmirror_store_available 1``; "-": it
        never left Redis
paid    what GitHub was paid for, though all of it was known
growth  by how many MB the mirror's memory has grown since before

At last many mirrors lose one Redis and find it again, all at once, under load: how long that takes,
and how long Redis lets a PING wait meanwhile. The exit status is 1 if any bar is missed.
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

from benchmarks.bars import MIB, Bars
from benchmarks.driving import Load, Question, StandIn, Tally, end_in_order, poll_all
from benchmarks.figures import read_metric, resident
from benchmarks.late import Late
from benchmarks.starving import Starving
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

TIMEOUT_MS = 250
USERS = 4
BACK_S = 5.0
DEADLINE_S = 30.0
LOOK_S = 0.02
CUTS = (1, 10, 100, 1000)
ALL_S = 10.0
"""Bar: for so long at most are many mirrors busy with coming back."""


def available(mirror: BlockingMirror) -> bool:
    """Whether a mirror is on Redis."""
    return read_metric(mirror.admin_url, "ghmirror_store_available") == 1


def until_available(mirrors: Sequence[BlockingMirror]) -> float:
    """Return after how many seconds the last one was on Redis; infinity if one never was."""
    began, left = time.monotonic(), list(mirrors)
    while left := [mirror for mirror in left if not available(mirror)]:
        if time.monotonic() - began > DEADLINE_S:
            return math.inf
        time.sleep(LOOK_S)
    return time.monotonic() - began


@define(eq=False)
class Scene:
    """Redis, the mirrors, and what may happen to Redis: each fault lasts as long as its context."""

    github: StandIn
    redis: RedisServer
    late: Late
    password_file: Path
    options: argparse.Namespace
    stack: ExitStack
    memory: BlockingMirror = field(init=False)
    direct: BlockingMirror = field(init=False)
    between: BlockingMirror = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.memory = self.start(None)
        self.direct = self.start(self.redis.address)
        self.between = self.start(self.late.address)
        for mirror in (self.memory, self.direct, self.between):
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

    def questions(self) -> Iterator[Question]:
        """Return, without end, what is asked, in the same order each time."""
        rng = random.Random(1)
        while True:
            yield (
                f"/repos/bench/repo-{rng.randrange(self.options.resources)}",
                f"token{rng.randrange(USERS)}",
            )

    def warm(self, mirrors: Sequence[BlockingMirror]) -> None:
        """Have mirrors know everything."""
        everything = [
            (f"/repos/bench/repo-{resource}", f"token{user}")
            for resource in range(self.options.resources)
            for user in range(USERS)
        ]
        tally = Tally()

        async def go() -> None:
            await asyncio.gather(
                *(poll_all(mirror.url, everything, 16, tally) for mirror in mirrors)
            )

        asyncio.run(go())
        if tally.failed:
            raise SystemExit(f"warming failed: {dict(tally.statuses)}")

    # What happens.

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
                self.late.cut(CUTS[number % len(CUTS)])
                number += 1

        cutting = threading.Thread(target=cut, daemon=True)
        cutting.start()
        yield
        stop.set()
        cutting.join()

    @contextlib.contextmanager
    def answers_late(self) -> Iterator[None]:
        self.late.by(1.0)
        yield
        self.late.by(0.0)

    @contextlib.contextmanager
    def black_hole(self) -> Iterator[None]:
        self.late.swallow(everything=True)
        yield
        self.late.swallow(everything=False)


@frozen
class Fault:
    """What happens, for how long, and to which mirror."""

    name: str
    happen: Callable[[Scene], AbstractContextManager[None]]
    seconds: float = 4.0
    between: bool = False


FAULTS = (
    Fault("killed (-9), restarted empty", Scene.killed),
    Fault("stopped (SIGSTOP) for 10 s", Scene.stopped, 10.0),
    Fault("maxmemory reached, noeviction", Scene.out_of_memory),
    Fault("allkeys-lru, hardly any room", Scene.evicting),
    Fault("read-only (REPLICAOF)", Scene.read_only),
    Fault("reset half-way through replies", Scene.resetting, between=True),
    Fault("replies 1 s late", Scene.answers_late, 5.0, between=True),
    Fault("a black hole", Scene.black_hole, 5.0, between=True),
    Fault("LOADING", Scene.loading),
    Fault("password changed", Scene.password_changed),  # the last: a restart would change it back
)


@define(eq=False)
class Faults:
    """Has the faults happen, one after the other, and judges what came of each."""

    scene: Scene
    options: argparse.Namespace
    bars: Bars = field(factory=Bars)

    def head(self) -> None:
        names = ("requests", "failed", "delay ms", "noisy ms", "back s", "paid", "growth MB")
        bars = ("", "0", f"{2 * TIMEOUT_MS}", "", f"{BACK_S:g}", "0", "")
        for first, rest in (("what happens to Redis", names), ("bar: at most", bars)):
            print(f"{first:34}" + "".join(f"{each:>10}" for each in rest))

    def run(self, fault: Fault) -> None:
        """Have one happen."""
        scene = self.scene
        mirror = scene.between if fault.between else scene.direct
        if math.isinf(until_available([mirror])):
            raise SystemExit(f"before {fault.name!r} the mirror is not on Redis")
        scene.github.control("reset_counts")
        before = resident(mirror.pid)
        left = False
        urls = [scene.memory.url, mirror.url]
        with (
            Starving((scene.memory.pid, mirror.pid)) as starving,
            Load(urls, scene.questions, self.options.rate) as load,
        ):
            time.sleep(1.0)
            with fault.happen(scene):
                until = time.monotonic() + fault.seconds
                while time.monotonic() < until:
                    left = left or not available(mirror)
                    time.sleep(LOOK_S)
            left = left or not available(mirror)
            back = until_available([mirror])
            time.sleep(1.0)
        paid = scene.github.counts()["total_paid"]
        tallies = [load.tallies[url] for url in urls]
        growth = (resident(mirror.pid) - before) / MIB
        self.judge(
            fault.name,
            tallies,
            starving,
            back=back if left else math.nan,
            paid=paid,
            growth=growth,
        )

    @staticmethod
    def own_time(pid: int, answered: tuple[float, float], starving: Starving) -> float:
        """Return how long a mirror took for an answer while it had a CPU."""
        due, took = answered
        return took - starving.during(pid, due, due + took)

    def judge(
        self,
        name: str,
        tallies: Sequence[Tally],
        starving: Starving,
        *,
        back: float,
        paid: int,
        growth: float,
    ) -> None:
        """Print what came of it beside what was allowed."""
        on_memory, on_redis = (tally.answered for tally in tallies)
        pids = starving.pids
        delays: dict[int, float] = {}
        noisy = -math.inf
        for n in sorted(on_redis.keys() & on_memory.keys()):
            both = on_memory[n], on_redis[n]
            without, took = (
                self.own_time(*each, starving) for each in zip(pids, both, strict=True)
            )
            delays[n] = 1000 * (took - without)
            noisy = max(noisy, 1000 * (both[1][1] - both[0][1]))
        delay = max(delays.values(), default=math.inf)
        failed = sum(tally.failed for tally in tallies)
        asked = sum(tally.statuses.total() for tally in tallies)
        judged = (
            ("failed requests", failed, 0),
            ("largest delay (ms)", delay, 2 * TIMEOUT_MS),
            ("seconds until it was back on Redis", back, math.nan if math.isnan(back) else BACK_S),
            ("paid", paid, 0),
        )
        verdicts = [
            self.bars.verdict(f"{name}: {what}", value, None if math.isnan(most) else most)
            for what, value, most in judged
        ]
        shown = "-" if math.isnan(back) else f"{back:.2f}"
        word = "MISSED" if "MISSED" in verdicts else "holds"
        print(
            f"{name:34}{asked:>10}{failed:>10}{delay:>10.0f}{noisy:>10.0f}{shown:>10}{paid:>10}{growth:>10.1f}"
            f"  {word}",
            flush=True,
        )
        long = [
            f"{n / self.options.rate:.2f} s: {delays[n]:.0f}"
            for n in sorted(delays)
            if delays[n] > 2 * TIMEOUT_MS
        ]
        if long:
            print(f"    delays (ms) above the bar, by when they were asked for: {', '.join(long)}")
        if failed:
            print(f"    {[dict(tally.statuses) for tally in tallies]}")

    def return_all(self) -> None:
        """Have many mirrors lose one Redis and find it again."""
        scene, count = self.scene, self.options.mirrors
        with RedisServer(password=scene.redis.password) as redis:
            crowd = [scene.start(redis.address) for _ in range(count)]
            for mirror in crowd:
                mirror.ready()
            if math.isinf(until_available(crowd)):
                raise SystemExit("not all mirrors are on Redis")
            scene.warm(crowd[:1])
            scene.github.control("reset_counts")
            rate = self.options.rate / count
            with Load([mirror.url for mirror in crowd], scene.questions, rate) as load:
                time.sleep(2.0)
                redis.kill()
                time.sleep(3.0)
                redis.restart()
                with Pings(redis) as pings:
                    back = until_available(crowd)
                    connections = pings.until_connected(4 * count)
                    time.sleep(1.0)
            failed = sum(tally.failed for tally in load.tallies.values())
            for mirror in crowd:
                mirror.stop()
        asked = sum(tally.statuses.total() for tally in load.tallies.values())
        print(f"\n{4 * count} connections of {count} mirrors return at once")
        bars = self.bars
        bars.figure("failed requests", failed, most=0, note=f"of {asked}")
        bars.figure("seconds until all mirrors are back", back, "s", most=ALL_S)
        bars.figure("seconds until all connections are", connections, "s")
        slowest = 1000 * max(pings.seconds, default=math.inf)
        note = f"of {len(pings.seconds)}"
        bars.figure("Redis' slowest answer to a PING", slowest, "ms", most=TIMEOUT_MS, note=note)


class Pings:
    """Asks Redis all the time how it is, in a thread of its own; runs inside a ``with``."""

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
        """Return how many seconds after the start there were so many connections."""
        with self._redis.client() as client:
            while time.monotonic() - self._began < DEADLINE_S:
                shown: bytes = client.send("INFO", "clients")
                # this one, and the one that pings
                if int(shown.partition(b"connected_clients:")[2].split()[0]) - 2 >= count:
                    return time.monotonic() - self._began
                time.sleep(LOOK_S)
        return math.inf


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rate", type=float, default=50, help="requests/s to each mirror")
    parser.add_argument("--resources", type=int, default=200)
    parser.add_argument("--delay", type=float, default=50, help="ms that GitHub takes")
    parser.add_argument("--mirrors", type=int, default=25, help="that return at once; 0: none")
    parser.add_argument("--only", default="", help="faults whose names contain this")
    options = parser.parse_args(arguments)
    end_in_order()
    with ExitStack() as stack:
        github = stack.enter_context(
            StandIn(resources=options.resources, users=USERS, delay=options.delay / 1000, log=0)
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
        late = stack.enter_context(Late(redis.address))
        scene = Scene(github, redis, late, password_file, options, stack)
        scene.warm([scene.memory, scene.direct, scene.between])
        faults = Faults(scene, options)
        print(
            f"{options.resources} resources, {USERS} users, {options.rate:g} requests/s to each "
            f"mirror; GitHub takes {options.delay:g} ms; [redis] timeout is {TIMEOUT_MS} ms\n"
        )
        faults.head()
        for fault in FAULTS:
            if options.only in fault.name:
                faults.run(fault)
        if options.mirrors:
            faults.return_all()
        return faults.bars.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
