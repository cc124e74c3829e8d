"""A mirror under mixed load while GitHub and Redis fail, with each response checked.

    python -m benchmarks.soak --seconds 60 --seed 1

Users with different rights read resources that are equal for all users, their own, and private
ones, and pages of lists, with GET, HEAD and preconditions. They also write, and send GraphQL.
Meanwhile contents and rights change, tokens are rotated and revoked, GitHub's stand-in has faults,
and Redis is killed and restarted.

A response must be what GitHub showed to the credential at some moment between request and response.
Otherwise it must be marked as stale, must have been granted to the credential and not refused
since, and must not be older than the credential's last write. Each failure must be caused by
GitHub. At the end no request, connection or file may be left. The exit status is 1 if any of this
does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import urlopen

from attrs import define, field, frozen

from benchmarks.github_process import GitHubProcess
from benchmarks.github_states import NEVER, GitHubStates, History, TimedRequest
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

USERS, RESOURCES, LISTS, WRITTEN = 6, 12, 3, 4
CLIENTS_EACH = 3
PER_PAGE: Final = 5
#: The seconds after a fault in which failures may still be its consequence: a rate limit lasts, an
#: earlier request is still awaited by collapsed ones, a response is under way.
LIMITED_S, TIMED_OUT_S, FAILED_S = 4.0, 2.2, 0.2
#: The same for a target that timed out more than once: the mirror pauses for 5 s, then for 10 s.
BACKED_OFF_S: Final = 10.2
_UNAVAILABLE: Final = 503
_GATEWAY_TIMEOUT: Final = 504
#: The seconds of events before a failure that are printed with it.
EVENTS_BEFORE_S = 4.0
#: The longest permitted duration of a request, in seconds.
TIMEOUT_S = 20.0
FAULTS: Final = (
    *("500", "502", "503", "504", "timeout", "refuse", "reset", "malformed", "slow"),
    *("reset-in-content", "truncated", "bad-gzip", "idle-in-content", "no-etag", "no-store"),
    *("huge-field", "secondary-limit", "abuse-limit", "primary-limit"),
)
SWITCHES: Final = ("honours_lists", "tag_in_304", "gzip", "chunked")


@frozen
class ReceivedResponse:
    """A response of the mirror."""

    status: int
    fields: dict[str, str]
    content: bytes = field(repr=False)

    @property
    def stale(self) -> bool:
        return self.fields.get("x-from-cache") == "1"

    @property
    def outcome(self) -> str:
        cache_status = self.fields.get("cache-status", "")
        return cache_status.partition("detail=")[2] or cache_status

    @property
    def limited(self) -> bool:
        """Whether it is a rate limit, of GitHub or of the mirror in its place."""
        none_left = self.fields.get("x-ratelimit-remaining") == "0"
        return self.status in {403, 429} and ("retry-after" in self.fields or none_left)

    @property
    def backed_off(self) -> bool:
        """Whether the mirror sent no request, since earlier ones for the target had timed out."""
        return self.status == _UNAVAILABLE and self.outcome == "timeout"

    @property
    def plain(self) -> bytes:
        packed = self.fields.get("content-encoding") == "gzip"
        return gzip.decompress(self.content) if packed and self.content else self.content

    @property
    def value(self) -> Any:
        return json.loads(self.plain)


@define(eq=False)
class SoakClient:
    """A connection to the mirror, which is reopened after it was closed."""

    url: str
    _reader: Any = None
    _writer: Any = None

    async def send(
        self, method: str, target: str, token: str, fields: dict[str, str], body: bytes = b""
    ) -> ReceivedResponse:
        parts = urlsplit(self.url)
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                parts.hostname, parts.port, limit=1 << 20
            )
        lines = {"Host": parts.netloc, "User-Agent": "soak", "Authorization": f"token {token}"}
        if body:
            lines["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in {**lines, **fields}.items())
        self._writer.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        top = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        received = {}
        for line in top[1:-2]:
            name, _, value = line.partition(": ")
            received[name.lower()] = value
        status = int(top[0].split()[1])
        content = b""
        if method == "HEAD" or status in {204, 304}:
            pass
        elif received.get("transfer-encoding") == "chunked":
            while size := int(await self._reader.readline(), 16):
                content += (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readline()
        else:
            content = await self._reader.readexactly(int(received.get("content-length", 0)))
        if received.get("connection") == "close":
            self.close()
        return ReceivedResponse(status, received, content)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


@define(eq=False)
class Soak:
    """The processes, the states of GitHub, and the results."""

    github: GitHubProcess
    redis: RedisServer
    mirror: BlockingMirror
    rng: random.Random
    until: float
    states: GitHubStates = field(factory=GitHubStates)
    fault_periods: list[tuple[float, float]] = field(factory=list)
    outcomes: Counter[str] = field(factory=Counter)
    done: Counter[str] = field(factory=Counter)
    events: list[tuple[float, str]] = field(factory=list)
    wrong: list[str] = field(factory=list)
    failed: list[str] = field(factory=list)
    current: dict[str, str] = field(factory=dict)
    busy: dict[str, asyncio.Lock] = field(factory=dict)
    etags: dict[Any, dict[str, Any]] = field(factory=dict)
    version: int = 0

    # Resources and tokens.

    async def control(self, name: str, **arguments: object) -> None:
        await asyncio.to_thread(self.github.control, name, **arguments)

    def content(self, path: str) -> dict[str, Any]:
        self.version += 1
        return {"path": path, "version": self.version, "url": self.github.url + path}

    def shown(self, content: dict[str, Any]) -> dict[str, Any]:
        return {**content, "url": self.mirror.url + content["path"]}

    async def put(self, path: str, readers: frozenset[str] | None) -> None:
        """Change the content of a resource, and its readers."""
        content = self.content(path)
        history = self.states.resources[path]
        state = history.begin(self.shown(content), readers, monotonic())
        more = {} if readers is None else {"private_to": sorted(readers) or ["another-user"]}
        await self.control("put", path=path, content=content, **more)
        self.states.resources[path].settle(state, monotonic())

    async def put_list(self, path: str, count: int) -> None:
        """Set the number of items of a list; the remaining ones are unchanged."""
        items = [{"of": path, "number": number} for number in range(count)]
        state = self.states.resources[path].begin(items, None, monotonic())
        await self.control("put_list", path=path, items=items)
        self.states.resources[path].settle(state, monotonic())

    async def new_token(self, login: str) -> None:
        token = f"token-{login}-{len(self.states.tokens)}"
        self.states.logins[token] = login
        now = monotonic()
        await self.control("token", token=token, login=login)
        self.states.tokens[token] = history = History()
        history.begin(True, None, now)
        old, self.current[login] = self.current.get(login), token
        if old is not None:
            state = self.states.tokens[old].begin(False, None, monotonic())
            await self.control("revoke", token=old)
            self.states.tokens[old].settle(state, monotonic())

    async def prepare(self) -> None:
        for user in range(USERS):
            await self.control("user", login=f"u{user}", limit=1_000_000_000)
            await self.new_token(f"u{user}")
        names = [f"/repos/soak/resource-{n}" for n in range(RESOURCES)]
        names += [f"/repos/soak/written-{n}" for n in range(WRITTEN)]
        for path in names:
            self.states.resources[path] = History()
            await self.put(path, None)
        for number in range(LISTS):
            path = f"/repos/soak/resource-{number}/issues"
            self.states.resources[path] = History()
            await self.put_list(path, 3 * PER_PAGE)
        for number in range(3):
            self.states.resources[f"/own/{number}"] = history = History()
            history.begin(lambda login: {"of": login, "text": "x" * 500}, None, 0.0)

    # Events.

    async def change(self) -> None:
        """Change resources and tokens at random until the end."""
        logins = [f"u{user}" for user in range(USERS)]
        while monotonic() < self.until:
            await asyncio.sleep(self.rng.uniform(0.02, 0.3))
            kind = self.rng.random()
            if kind < 0.6:
                path = f"/repos/soak/resource-{self.rng.randrange(RESOURCES)}"
                some = frozenset(self.rng.sample(logins, self.rng.randrange(USERS)))
                readers = None if self.rng.random() < 0.4 else some
                await self.put(path, readers)
            elif kind < 0.85:
                path = f"/repos/soak/resource-{self.rng.randrange(LISTS)}/issues"
                await self.put_list(path, self.rng.randrange(4 * PER_PAGE + 1))
            else:
                await self.new_token(self.rng.choice(logins))

    async def inject_faults(self) -> None:
        """Inject faults into GitHub, with pauses between them."""
        while monotonic() < self.until:
            await asyncio.sleep(self.rng.uniform(0.5, 6.0))
            began = monotonic()
            self.fault_periods.append((began, NEVER))
            for _ in range(self.rng.randrange(1, 3)):
                kind = self.rng.choice(FAULTS)
                login = self.rng.choice([None, f"u{self.rng.randrange(USERS)}"])
                if kind == "primary-limit":
                    owner = login or "u0"
                    await self.control("set_quota", login=owner, remaining=0, reset_in_s=2)
                else:
                    await self.control("fault", path=None, kind=kind, login=login, delay_s=0.3)
                self.note_event(f"fault {kind} {login or ''}")
                self.done[f"fault {kind}"] += 1
            if self.rng.random() < 0.3:
                name = self.rng.choice(SWITCHES)
                await self.control("switches", **{name: self.rng.random() < 0.5})
            await asyncio.sleep(self.rng.uniform(0.3, 3.0))
            await self.control("clear_faults")
            self.note_event("faults end")
            self.fault_periods[-1] = (began, monotonic())

    async def kill_redis(self) -> None:
        """Kill Redis, and restart it empty after a while, until the end."""
        while monotonic() < self.until:
            await asyncio.sleep(self.rng.uniform(3.0, 8.0))
            await asyncio.to_thread(self.redis.kill)
            self.note_event("Redis killed")
            self.done["Redis killed"] += 1
            await asyncio.sleep(self.rng.uniform(0.2, 4.0))
            await asyncio.to_thread(self.redis.restart)
            self.note_event("Redis restarted")

    def note_event(self, what: str) -> None:
        self.events.append((monotonic(), what))

    def events_since(self, since: float) -> str:
        """Return the events from shortly before *since* until now, with seconds relative to it."""
        late = [
            f"{at - since:+.2f} {what}" for at, what in self.events if at > since - EVENTS_BEFORE_S
        ]
        return ", ".join(late)

    async def client(self, login: str, seed: str) -> None:
        """Send one request after another, as one client of a user."""
        rng = random.Random(seed)
        with contextlib.closing(SoakClient(self.mirror.url)) as client:
            while monotonic() < self.until:
                await asyncio.sleep(rng.uniform(0.0, 0.05))
                token = self.current[login]
                if rng.random() < 0.05:
                    token = rng.choice([t for t, of in self.states.logins.items() if of == login])
                kind = rng.random()
                if kind < 0.07:
                    await self.write(client, token, f"/repos/soak/written-{rng.randrange(WRITTEN)}")
                elif kind < 0.12:
                    await self.graphql(client, token, login, rng)
                else:
                    await self.read(client, token, rng)

    # Requests.

    async def read(self, client: SoakClient, token: str, rng: random.Random) -> None:
        """Read a resource, and check the response."""
        path, page = rng.choice([p for p in self.states.resources if "issues" not in p]), 0
        if rng.random() < 0.3:
            path, page = f"/repos/soak/resource-{rng.randrange(LISTS)}/issues", rng.randrange(1, 5)
        target = f"{path}?per_page={PER_PAGE}&page={page}" if page else path
        method = "HEAD" if rng.random() < 0.1 else "GET"
        fields = {"Accept-Encoding": "gzip"} if rng.random() < 0.5 else {}
        begin = monotonic()
        sent = TimedRequest(method, path, token, begin, begin, page, PER_PAGE if page else 0)
        # the mirror also requests other pages of a list by itself
        self.states.first_requested.setdefault((token, path), begin)
        known = self.etags.setdefault(sent.name, {})
        if known and rng.random() < 0.3:
            fields["If-None-Match"] = rng.choice(list(known))
        received = await self.exchange(client, method, target, token, fields)
        if received is None:
            return
        sent = TimedRequest(method, path, token, begin, monotonic(), page, sent.per_page)
        fault = self.check(sent, received, known, fields)
        if fault:
            age = received.fields.get("age")
            more = f"age={age} {fields} {received.plain[:200]!r}"
            shown = f"{received.status} {received.outcome} {more}"
            self.wrong.append(f"{fault}: {sent} {shown}; {self.events_since(begin)}")

    def check(
        self,
        sent: TimedRequest,
        received: ReceivedResponse,
        known: dict[str, Any],
        fields: dict[str, str],
    ) -> str | None:
        """Return the fault of a response, or None."""
        if received.status >= 500 or received.limited:
            self.note_failure(sent.begin, f"{sent} {received.outcome}", received)
        elif received.status in {401, 403, 404}:
            if received.status not in self.states.statuses(sent):
                return "refused, although GitHub did not"
            self.states.note_refusal(sent, received.status)
        elif received.status not in {200, 304}:
            return "a status that GitHub does not send"
        elif not self.is_right(sent, received, known, fields):
            return "not entitled to, or not current"
        elif sent.page and not received.stale and received.status == 200:
            has_next = 'rel="next"' in received.fields.get("link", "")
            if has_next not in self.states.may_have_next(sent):
                return "an incorrect Link"
        return None

    def is_right(
        self,
        sent: TimedRequest,
        received: ReceivedResponse,
        known: dict[str, Any],
        fields: dict[str, str],
    ) -> bool:
        """Return whether the content of a response, or of the one that a 304 confirms, is right."""
        etag = received.fields.get("etag", "")
        if received.status == 304:
            if "If-None-Match" not in fields:
                return False
            content = known[fields["If-None-Match"]]
        elif sent.method != "HEAD":
            content = received.value
            if etag:
                known[etag] = content
        elif etag in known:
            content = known[etag]
        else:
            return received.stale or 200 in self.states.statuses(sent)
        right = self.states.may_be_stale if received.stale else self.states.is_current
        return right(sent, content)

    async def write(self, client: SoakClient, token: str, path: str) -> None:
        """Write a resource; writes of one resource do not overlap."""
        async with self.busy.setdefault(path, asyncio.Lock()):
            content = self.content(path)
            history = self.states.resources[path]
            begin = monotonic()
            state = history.begin(self.shown(content), None, begin)
            body = json.dumps(content).encode()
            received = await self.exchange(client, "PUT", path, token, {}, body)
            sent = TimedRequest("PUT", path, token, begin, monotonic())
            if received is None or received.status >= 500 or received.limited:
                if received is not None:
                    self.note_failure(begin, f"{sent} {received.outcome}", received)
            elif received.status == 200:
                history.settle(state, monotonic())
                self.states.note_write(sent)
                if received.value != state.value:
                    self.wrong.append(f"not what was written: {sent}")
            elif received.status not in self.states.statuses(sent):
                self.wrong.append(f"refused, although GitHub did not: {sent} {received.status}")
            else:
                history.states.remove(state)

    async def graphql(self, client: SoakClient, token: str, login: str, rng: random.Random) -> None:
        """Send a GraphQL query for the login, or a mutation."""
        verb = rng.choice(["query", "mutation"])
        body = json.dumps({"query": verb + " { viewer { login } }"}).encode()
        begin = monotonic()
        received = await self.exchange(client, "POST", "/graphql", token, {}, body)
        if received is None:
            return
        sent = TimedRequest("POST", "/own/0", token, begin, monotonic())
        if received.status >= 500 or received.limited:
            self.note_failure(begin, f"GraphQL {sent} {received.outcome}", received)
        elif received.status not in self.states.statuses(sent):
            self.wrong.append(f"refused, although GitHub did not: {sent} {received.status}")
        elif received.status == 200 and received.value["data"]["viewer"] != {"login": login}:
            self.wrong.append(f"a response for another user: {sent}")

    async def exchange(  # noqa: PLR0917 - the parts of a request
        self,
        client: SoakClient,
        method: str,
        target: str,
        token: str,
        fields: dict[str, str],
        body: bytes = b"",
    ) -> ReceivedResponse | None:
        """Send a request and return the response, or None after a failure."""
        begin = monotonic()
        try:
            received = await asyncio.wait_for(
                client.send(method, target, token, fields, body), TIMEOUT_S
            )
        except TimeoutError:
            client.close()
            self.failed.append(f"no response in {TIMEOUT_S} s: {method} {target}")
            return None
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            client.close()
            self.outcomes[type(error).__name__] += 1
            self.note_failure(begin, f"{method} {target}: {error!r}")
            return None
        self.done[method] += 1
        self.outcomes[f"{received.status} {received.outcome}"] += 1
        return received

    def note_failure(
        self, begin: float, description: str, received: ReceivedResponse | None = None
    ) -> None:
        """Record a failure, unless GitHub had a fault during the request."""
        end, after_s = monotonic(), FAILED_S
        if received is not None and received.limited:
            after_s = LIMITED_S
        elif received is not None and received.backed_off:
            after_s = BACKED_OFF_S
        elif received is not None and received.status == _GATEWAY_TIMEOUT:
            after_s = TIMED_OUT_S
        if not any(
            since <= end and until + after_s >= begin for since, until in self.fault_periods
        ):
            status = "" if received is None else f"{received.status} "
            self.failed.append(f"{status}{description}; {self.events_since(begin)}")

    async def run(self, seconds: float, seed: int) -> None:
        """Run clients and events for so many seconds."""
        self.until = monotonic() + seconds
        clients = [
            self.client(f"u{user}", f"{seed} {user} {number}")
            for user in range(USERS)
            for number in range(CLIENTS_EACH)
        ]
        await asyncio.gather(self.change(), self.inject_faults(), self.kill_redis(), *clients)


@frozen
class ProcessResources:
    """The resources of a mirror's process."""

    memory_mb: float
    files: int
    in_flight: float
    to_clients: int

    @classmethod
    def by(cls, mirror: BlockingMirror) -> ProcessResources:
        """Count them without the connections to GitHub and Redis, which are persistent."""
        with urlopen(f"{mirror.admin_url}/metrics") as response:
            shown = response.read().decode()
        in_flight = float(re.findall(r"^ghmirror_in_flight (\S+)$", shown, re.MULTILINE)[0])
        inodes = set()
        others = 0
        for path in Path(f"/proc/{mirror.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(path.readlink())
                found = re.fullmatch(r"socket:\[(\d+)\]", target)
                if found:
                    inodes.add(found[1])
                else:
                    others += 1
        port = urlsplit(mirror.url).port
        clients = 0
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            parts = line.split()
            ours = int(parts[1].split(":")[1], 16) == port
            clients += ours and parts[9] in inodes and parts[3] != "0A"
        pages = int(Path(f"/proc/{mirror.pid}/statm").read_text().split()[1])
        return cls(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, others, in_flight, clients)


def wait_until_idle(soak: Soak, wait_s: float) -> tuple[ProcessResources, int]:
    """Return the resources, and the requests at GitHub, once both are idle or after a timeout."""
    end = monotonic() + wait_s
    while True:
        left = ProcessResources.by(soak.mirror)
        sent = sum(soak.github.counts()["in_flight"].values())
        if monotonic() > end or not (left.in_flight or left.to_clients or sent):
            return left, sent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=10, help="how many of each fault to print")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        github = stack.enter_context(GitHubProcess(log=0, own=3))
        # requests with invalid credentials count against the address
        github.control("switches", secondary_retry_after_s=1, anonymous_limit=1_000_000_000)
        redis = stack.enter_context(RedisServer())
        sections: dict[str, dict[str, object]] = {
            "github": {
                "api_url": github.url,
                "timeout": "2s",
                "stale_after": "500ms",
                "idle_timeout": "1s",
                # above the load of these clients, which a limit of 900 would rightly refuse
                "points_per_minute": 100_000,
            },
            "cache": {
                "backend": "redis",
                "credential_secret": "of the benchmark",
                "collapse_wait": "2s",
            },
            "redis": {"url": "redis://{}:{}".format(*redis.address)},
            "log": {"access": "none"},
        }
        mirror = stack.enter_context(BlockingMirror(sections))
        soak = Soak(github, redis, mirror, random.Random(options.seed), 0.0)
        asyncio.run(soak.prepare())
        before = ProcessResources.by(mirror)
        asyncio.run(soak.run(options.seconds, options.seed))
        after, sent = wait_until_idle(soak, 10.0)
        tracebacks = mirror.log_text.count("Traceback (most recent call last)")
        log = mirror.log_text
    print(
        f"seed {options.seed}, {options.seconds:g} s: {sum(soak.done.values())} requests and kills"
    )
    for name, count in soak.done.most_common():
        print(f"  {name:40}{count:>8}")
    for name, count in soak.outcomes.most_common():
        print(f"    {name:38}{count:>8}")
    counts = {
        "wrong responses": len(soak.wrong),
        "failed, not caused by GitHub": len(soak.failed),
        "tracebacks in the log": tracebacks,
        "requests left in flight": int(after.in_flight),
        "requests left at GitHub": sent,
        "connections of clients left": after.to_clients,
        "files left": max(0, after.files - before.files),
    }
    for name, count in counts.items():
        print(f"{name:42}{count:>8}{'  MISSED' if count else ''}")
    print(f"memory: {before.memory_mb:.1f} MB at the start, {after.memory_mb:.1f} MB at the end")
    for fault in (*soak.wrong[: options.show], *soak.failed[: options.show]):
        print(f"  {fault}")
    if any(counts.values()):
        reasons = re.findall(r"GitHub sent no usable response: .*(reason=.*)", log)
        for reason, count in Counter(reasons).most_common(options.show):
            print(f"  {count:>6} {reason}")
    if tracebacks:
        print(log[max(0, log.index("Traceback") - 500) :][:4000])
    return int(any(counts.values()))


if __name__ == "__main__":
    sys.exit(main())
