"""Traffic like that of a fleet of bots: the mirror in comparison with Varnish and nginx.

    python -m benchmarks.trace --rounds 3 --seconds 10

48 clients, each with a connection, a credential and a `User-Agent` of its own, of 12 users. Each
requests one of 4,000 paths by Zipf's law (exponent 1) as soon as it has the response to its last
request. A fifth of the paths are pages of lists with `Link`. Every third client sends
`If-None-Match` for responses that it has received. Content is 23 kB of JSON. The choices follow
from a seed.

Varnish validates each GET with the same stand-in for GitHub, and so does a proxy made of Python
packages (`packages_proxy`). nginx forwards each. With ``$MIRROR_PYTHON``, mirrors on that
interpreter are measured as well as those on this one. CPU time is that of all processes of a
subject, from /proc. The subjects are measured in turn in each round, in alternating order.
"""

from __future__ import annotations

import argparse
import json
import random
import selectors
import socket
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import ClassVar, Final
from urllib.parse import urlsplit

from attrs import define, field, frozen

from benchmarks import process_usage
from benchmarks.generated_records import issue
from benchmarks.interpreters import OWN
from benchmarks.nginx_github import NginxGitHub, entity_tags
from benchmarks.process_control import exit_cleanly_on_signals
from benchmarks.results import Results
from benchmarks.subjects import MirrorSubject, Nginx, PackagesProxy, Subject, Varnish, settings
from benchmarks.thresholds import MIB
from tests.harness.redis_servers import RedisServer
from tests.harness.running import PYTHON, BlockingMirror

PART: Final = "trace"
CLIENTS: Final = 48
USERS: Final = 12
PATHS: Final = 4_000
PAGES: Final = 10
"""The pages of each list; the last one is half full."""
LISTS: Final = PATHS // 5 // PAGES
SIZE: Final = 23_000
PER_PAGE: Final = 30
WARM_S: Final = 40
SEED: Final = 19
OVER_VARNISH: Final = 1.5
REDIS_OVER_NGINX: Final = 5.0
P99_OVER_P50: Final = 3.0
PYPY_MB: Final = 400
_RECEIVE_BYTES: Final = 1 << 18
_SHOWN_LOG: Final = 4_000
_HEAD_END: Final = b"\r\n\r\n"


def targets() -> list[str]:
    """Return the targets by rank; lists are spread among single objects."""
    lists = [
        f"/repos/bench/list-{number}/issues?page={page}"
        for number in range(LISTS)
        for page in range(1, PAGES + 1)
    ]
    objects = [f"/repos/bench/repo-{number}" for number in range(PATHS - len(lists))]
    ranked = [*lists, *objects]
    random.Random(SEED).shuffle(ranked)
    return ranked


def _padded(front: bytes, back: bytes, size: int, rng: random.Random) -> bytes:
    words = str(issue(rng, 0)["body"])
    text = (words + " ") * (size // (len(words) + 1) + 1)
    return front + text[: max(size - len(front) - len(back), 0)].encode() + back


def content_of(target: str, url: str) -> bytes:
    """Return the content of a target, with URLs of the API at *url*."""
    rng = random.Random(target)
    path, _, query = target.partition("?")
    if not query:
        made = issue(rng, rng.randrange(10_000))
        front = json.dumps({**made, "url": url + target}).encode()[:-1] + b',"text":"'
        return _padded(front, b'"}', SIZE, rng)
    page = int(query.removeprefix("page="))
    count = 0 if page > PAGES else PER_PAGE if page < PAGES else PER_PAGE // 2
    each = SIZE // PER_PAGE
    items = []
    for number in range(count):
        front = b'{"number":%d,"url":"%s%s/%d","body":"' % (
            number,
            url.encode(),
            path.encode(),
            number,
        )
        items.append(_padded(front, b'"}', each - 1, rng))
    return b"[" + b",".join(items) + b"]"


def link_of(target: str, url: str) -> str:
    """Return the `Link` of a page, as GitHub sends it; empty for what is no page of a list."""
    path, _, query = target.partition("?")
    page = int(query.removeprefix("page=") or 0)
    if not 1 <= page <= PAGES:
        return ""
    related = {"prev": page - 1, "next": page + 1, "last": PAGES, "first": 1}
    if page == 1:
        del related["prev"], related["first"]
    if page == PAGES:
        del related["next"], related["last"]
    return ", ".join(f'<{url}{path}?page={at}>; rel="{rel}"' for rel, at in related.items())


class TraceNginxGitHub(NginxGitHub):
    """The stand-in with the trace's paths, for all of its credentials."""

    key = "$request_uri"
    fields: ClassVar[dict[str, str]] = {"Link": "$link"}

    def __init__(self) -> None:
        super().__init__({}, users=CLIENTS)

    def write_resources(self, tokens: Sequence[bytes]) -> tuple[list[str], str, str]:
        """Write the files; return entity-tags, and the maps of files and links.

        After the last page of each list there is an empty one. A 304 has no `Link`.
        """
        ends = [f"/repos/bench/list-{number}/issues?page={PAGES + 1}" for number in range(LISTS)]
        digests: list[str] = []
        files, links = [], []
        for number, target in enumerate([*targets(), *ends]):
            content = content_of(target, self.url)
            self.write_resource(f"{number}.json", content)
            digests += entity_tags(target, content, tokens)
            files.append(f'"{target}" /{number}.json;')
            link = link_of(target, self.url)
            if link:
                links.append(f"\" {target}\" '{link}';")
        maps = (
            "map $request_uri $file { default /none; " + " ".join(files) + " }\n"
            'map "$unmodified $request_uri" $link { default ""; ' + " ".join(links) + " }\n"
        )
        return digests, maps, "try_files $file =404;"


@define(eq=False)
class Bot:
    """A bot: one connection, one request after the other, drawn by Zipf's law.

    *tags*: the entity-tags that it has received, by target; None: it sends no condition.
    """

    number: int
    address: tuple[str, int]
    ranked: Sequence[str]
    weights: Sequence[float]
    tags: dict[str, bytes] | None
    statuses: Counter[int]
    times: list[float] = field(factory=list)
    _rng: random.Random = field(init=False)
    _socket: socket.socket = field(init=False)
    _fields: bytes = field(init=False)
    _target: str = ""
    _sent_at: float = 0.0
    _received: bytes = b""
    _missing: int = -1

    def __attrs_post_init__(self) -> None:
        self._rng = random.Random(SEED * CLIENTS + self.number)
        self._fields = (
            f" HTTP/1.1\r\nHost: {self.address[0]}:{self.address[1]}\r\n"
            f"Authorization: token token{self.number}\r\nAccept-Encoding: gzip\r\n"
            f"User-Agent: bot-{self.number % USERS}/1.{self.number}\r\n"
        ).encode()

    def connect(self) -> None:
        """Open a connection: servers close idle ones while other subjects are measured."""
        self._socket = socket.create_connection(self.address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        """Return the number of the socket, for a selector."""
        return self._socket.fileno()

    def send(self) -> None:
        """Send the next request."""
        (self._target,) = self._rng.choices(self.ranked, cum_weights=self.weights)
        tag = None if self.tags is None else self.tags.get(self._target)
        condition = b"" if tag is None else b"If-None-Match: %s\r\n" % tag
        self._sent_at = time.perf_counter()
        self._socket.sendall(b"GET %s%s%s\r\n" % (self._target.encode(), self._fields, condition))

    def receive(self) -> bool:
        """Receive available data; return whether the response is complete."""
        data = self._socket.recv(_RECEIVE_BYTES)
        if not data:
            raise SystemExit(f"the connection of client {self.number} was closed")
        if self._missing < 0:
            self._received += data
            head, end, content = self._received.partition(_HEAD_END)
            if not end:
                return False
            self._received = b""
            self._missing = self._length(head) - len(content)
        else:
            self._missing -= len(data)
        if self._missing > 0:
            return False
        self._missing = -1
        self.times.append(time.perf_counter() - self._sent_at)
        return True

    def _length(self, head: bytes) -> int:
        """Return the length of the content, and note status and entity-tag."""
        status = int(head[9:12])
        self.statuses[status] += 1
        folded = head.lower()
        if self.tags is not None and status == 200:
            at = folded.find(b"\r\netag: ")
            self.tags[self._target] = head[at + 8 :].partition(b"\r\n")[0]
        if status == 304:
            return 0
        at = folded.find(b"\r\ncontent-length: ")
        if at < 0:
            raise SystemExit(f"a response without a length: {head.decode('latin-1')}")
        return int(folded[at + 18 :].partition(b"\r\n")[0])

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


@frozen
class TraceRow:
    """The figures of a subject in one round.

    *cpu_us*: CPU time of all processes for a response. *upstream*: requests to GitHub for a
    response; *paid*: those of them without a 304.
    """

    subject: str
    cpu_us: float
    rate: float
    p50_ms: float
    p99_ms: float
    memory_mb: float
    upstream: float
    paid: float
    not_modified: float


NUMBERS: Final = tuple(name for name in TraceRow.__annotations__ if name != "subject")


@define(eq=False)
class BotFleet:
    """The clients of one subject; their entity-tags persist over rounds."""

    subject: Subject
    clients: list[Bot]
    statuses: Counter[int]

    @classmethod
    def of(cls, subject: Subject) -> BotFleet:
        """Return the clients of a subject."""
        at = urlsplit(subject.url)
        address = (str(at.hostname), int(at.port or 0))
        ranked = targets()
        weights = list(accumulate(1.0 / rank for rank in range(1, len(ranked) + 1)))
        statuses: Counter[int] = Counter()
        clients = [
            Bot(number, address, ranked, weights, {} if number % 3 == 0 else None, statuses)
            for number in range(CLIENTS)
        ]
        return cls(subject, clients, statuses)

    def drive(self, seconds: float) -> list[float]:
        """Send the requests of all clients for so many seconds; return the sorted durations."""
        until, busy = time.perf_counter() + seconds, len(self.clients)
        with selectors.DefaultSelector() as selector:
            for client in self.clients:
                client.times.clear()
                client.connect()
                selector.register(client, selectors.EVENT_READ)
                client.send()
            while busy:
                for key, _ in selector.select(5.0):
                    client = key.fileobj  # type: ignore[assignment]
                    if client.receive():
                        if time.perf_counter() < until:
                            client.send()
                        else:
                            busy -= 1
                            selector.unregister(client)
                            client.close()
        return sorted(each for client in self.clients for each in client.times)

    def measure(self, github: TraceNginxGitHub, seconds: float) -> TraceRow:
        """Return the figures of the subject under this load."""
        github.wait_until_idle()
        self.statuses.clear()
        pids = tuple(self.subject.pids)
        cpu, began = process_usage.cpu_s(pids), time.perf_counter()
        times = self.drive(seconds)
        duration, cpu = time.perf_counter() - began, process_usage.cpu_s(pids) - cpu
        time.sleep(0.3)
        upstream = github.upstream_requests()
        if set(self.statuses) - {200, 304}:
            log = self.subject.mirror.log_text if isinstance(self.subject, MirrorSubject) else ""
            raise SystemExit(
                f"{self.subject.name}: statuses {dict(self.statuses)}\n{log[-_SHOWN_LOG:]}"
            )
        paid = sum(count for kind, count in upstream.items() if not kind.startswith("304"))
        return TraceRow(
            self.subject.name,
            1e6 * cpu / len(times),
            len(times) / duration,
            1e3 * times[len(times) // 2],
            1e3 * times[len(times) * 99 // 100],
            process_usage.memory(pids) / MIB,
            upstream.total() / len(times),
            paid / len(times),
            self.statuses[304] / len(times),
        )


def show(row: TraceRow) -> None:
    """Print a row."""
    print(
        f"{row.subject:24}{row.cpu_us:9.0f}{row.rate:9.0f}{row.p50_ms:9.2f}{row.p99_ms:9.2f}"
        f"{row.memory_mb:9.0f}{row.upstream:10.3f}{row.paid:8.4f}{row.not_modified:7.2f}"
    )


HEAD: Final = (
    f"{'':24}{'CPU us':>9}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'MB':>9}"
    f"{'upstream':>10}{'paid':>8}{'304':>7}"
)
MEMORY, REDIS = "mirror, memory store", "mirror, Redis"
OTHER_MEMORY, OTHER_REDIS = "on PyPy, memory store", "on PyPy, Redis"


def _mirrors(
    stack: ExitStack, github: TraceNginxGitHub, names: tuple[str, str], python: Path
) -> list[MirrorSubject]:
    """Start a mirror with each store on an interpreter."""
    redis = stack.enter_context(RedisServer())
    return [
        MirrorSubject(
            name,
            stack.enter_context(BlockingMirror(settings(github.url, on), python=python)),
            on,
        )
        for name, on in zip(names, (None, redis), strict=True)
    ]


def measure_trace(options: argparse.Namespace, results: Results) -> None:
    """Measure, print the results, and compare them with the thresholds."""
    rounds: dict[str, list[TraceRow]] = {}
    with ExitStack() as stack:
        github = stack.enter_context(TraceNginxGitHub())
        subjects: list[Subject] = [
            *_mirrors(stack, github, (MEMORY, REDIS), OWN),
            stack.enter_context(Varnish(github.port)),
            stack.enter_context(Nginx(github.port)),
            stack.enter_context(PackagesProxy(github.port)),
        ]
        if PYTHON != OWN:
            subjects += _mirrors(stack, github, (OTHER_MEMORY, OTHER_REDIS), PYTHON)
        fleets = [BotFleet.of(subject) for subject in subjects]
        for fleet in fleets:
            print(f"warming {fleet.subject.name} for {options.warm:g} s", flush=True)
            fleet.drive(options.warm)
        for number in range(options.rounds):
            print(f"\nround {number + 1} of {options.rounds}\n{HEAD}", flush=True)
            for fleet in fleets if number % 2 else reversed(fleets):
                row = fleet.measure(github, options.seconds)
                show(row)
                rounds.setdefault(row.subject, []).append(row)
    print(f"\nThe fleet trace, medians of {options.rounds} rounds\n{HEAD}")
    table = [
        TraceRow(name, *(median(getattr(row, each) for row in rows) for each in NUMBERS))
        for name, rows in rounds.items()
    ]
    for row in table:
        show(row)
    results.tables[PART] = table
    judge(results, rounds)


def judge(results: Results, rounds: dict[str, list[TraceRow]]) -> None:
    """Print the medians of the ratios in each round, with their thresholds."""
    print()

    def ratio(one: str, other: str) -> float:
        pairs = zip(rounds[one], rounds[other], strict=True)
        return median(a.cpu_us / b.cpu_us for a, b in pairs)

    results.figure(
        PART, "CPU, memory store / Varnish", ratio(MEMORY, Varnish.name), most=OVER_VARNISH
    )
    packages = f"CPU, memory store / {PackagesProxy.name} ({PackagesProxy.versions()})"
    results.figure(PART, packages, ratio(MEMORY, PackagesProxy.name))
    if OTHER_MEMORY in rounds:
        what = "CPU, on PyPy, memory store / Varnish"
        results.figure(PART, what, ratio(OTHER_MEMORY, Varnish.name), most=1.0)
        memory_mb = median(row.memory_mb for row in rounds[OTHER_MEMORY])
        results.figure(PART, "memory on PyPy, memory store", memory_mb, " MB", most=PYPY_MB)
    added = median(
        (on_redis.cpu_us - memory.cpu_us) / passing.cpu_us
        for on_redis, memory, passing in zip(
            rounds[REDIS], rounds[MEMORY], rounds[Nginx.name], strict=True
        )
    )
    results.figure(PART, "CPU that Redis adds / nginx", added, most=REDIS_OVER_NGINX)
    results.figure(
        PART,
        "upstream requests for each response, memory store",
        median(row.upstream for row in rounds[MEMORY]),
    )
    for name in (MEMORY, REDIS, Varnish.name):
        rows = rounds[name]
        results.figure(
            PART,
            f"p99 / p50, {name}",
            median(row.p99_ms / row.p50_ms for row in rows),
            most=None if name == Varnish.name else P99_OVER_P50,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the trace alone."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each subject in a round")
    parser.add_argument("--warm", type=float, default=WARM_S, help="seconds before the measurement")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    exit_cleanly_on_signals()
    results = Results()
    measure_trace(options, results)
    if options.json is not None:
        results.write(options.json, "python -m benchmarks.trace", vars(options))
    results.thresholds.end()


if __name__ == "__main__":
    main()
