"""One history: the load, what changes meanwhile, and the faults."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from time import monotonic
from typing import Final

from attrs import define, field

from tests.history.clients import Client, Sent
from tests.history.faults import Fault
from tests.history.fleet import Fleet
from tests.history.github import GitHub
from tests.history.records import History, Response, Trouble

USERS: Final = 6
READ: Final = tuple(f"/repos/o/r{number}" for number in range(8))
WRITTEN: Final = tuple(f"/repos/o/w{number}" for number in range(3))
OWN: Final = ("/user/own",)
TARGETS: Final = (*READ, *WRITTEN, *OWN)
WORKERS: Final = 10
#: After its faults, an episode lasts until nothing has failed for so long; and no longer than that.
_CALM_S: Final = 1.0
_LONGEST_RECOVERY_S: Final = 12.0
_MOST_REVOKED: Final = 2
_REFUSALS: Final = (404, 404, 403)


@define(eq=False)
class Episode:
    """One history: its load, its changes, and its faults."""

    fleet: Fleet
    github: GitHub
    rng: random.Random
    #: The timeout of clients.
    patience_s: float
    history: History = field(factory=History)
    tokens: list[str] = field(factory=list)
    _revoked: list[str] = field(factory=list)
    #: Pairs without access.
    taken: list[tuple[str, str]] = field(factory=list)
    #: What is requested next, so that a replica receives a refusal at once.
    urgent: list[tuple[str, str]] = field(factory=list)
    tags: dict[tuple[str, str], str] = field(factory=dict)
    _takes_away: bool = False
    #: Whether pairs without access are requested more often.
    _probes: bool = False
    running: bool = True
    numbers: int = 0
    #: Set when nothing is *urgent*.
    _settled: asyncio.Event = field(factory=asyncio.Event)

    def begin(self, number: int) -> None:
        """Create new credentials, with the former contents."""
        self.github.history = self.history
        for target in TARGETS:
            self.github.change(target)
        for user in range(USERS):
            token = f"token-{number}-u{user}"
            self.tokens.append(token)
            self.github.add_credential(token, f"u{user}")

    def note(self, text: str) -> None:
        """Record an event, for the reader of a finding."""
        self.history.notes.append((monotonic(), text))

    # The load.

    async def run(self, faults: Sequence[Fault]) -> None:
        """Live through it."""
        workers = [
            asyncio.ensure_future(_Worker(self, random.Random(f"{self.rng.random()}")).work())
            for _ in range(WORKERS)
        ]
        others = [asyncio.ensure_future(self._change())]
        try:
            await self._sweep()
            await self._fail(faults)
            await self._recover()
        finally:
            self.running = False
            await asyncio.gather(*workers, *others)
        for fault in faults:
            await fault.settle()

    async def _sweep(self) -> None:
        """Request everything with every credential, so that it has grants."""
        self.urgent = [(token, target) for token in self.tokens for target in TARGETS]
        self.rng.shuffle(self.urgent)
        await self._until_settled()

    async def _until_settled(self) -> None:
        self._settled.clear()
        if self.urgent:
            await self._settled.wait()

    def next(self, rng: random.Random) -> tuple[str, str]:
        """Return a credential and a target to be requested next."""
        if self.urgent:
            found = self.urgent.pop()
            if not self.urgent:
                self._settled.set()
            return found
        if self.taken and self._probes and rng.random() < 0.4:
            return rng.choice(self.taken)
        # many at once request the same, so that they share flights
        if rng.random() < 0.2:
            return self.tokens[0], WRITTEN[0]
        pair = rng.choice(self.tokens), rng.choice(TARGETS)
        # a refusal is mostly received by one replica alone, until GitHub fails
        if not self._probes and pair in self.taken and rng.random() < 0.8:
            return rng.choice(self.tokens), rng.choice(TARGETS)
        return pair

    def version_of(self, target: str, tag: str) -> int:
        """Return the version of a tag of GitHub; 0 where GitHub never sent it."""
        of, version = self.github.tags.get(tag, ("", 0))
        return version if of == target else 0

    # What changes at GitHub.

    async def _change(self) -> None:
        """Change something again and again."""
        rng = random.Random(f"{self.rng.random()}")
        while self.running:
            await asyncio.sleep(rng.uniform(0.02, 0.12))
            kind = rng.random()
            if kind < 0.35:
                self.github.change(rng.choice((*TARGETS, *(WRITTEN[:1] * 4))))
            elif self._takes_away and kind < 0.8:
                self._take_away(rng)
            elif self.taken and kind > 0.93:
                token, target = self.taken.pop(rng.randrange(len(self.taken)))
                if token not in self._revoked:
                    self.github.set_access(target, token, 200)

    def _take_away(self, rng: random.Random) -> None:
        # the first credential has access to everything, always
        token, target = rng.choice(self.tokens[1:]), rng.choice(TARGETS)
        if rng.random() < 0.15 and len(self._revoked) < _MOST_REVOKED:
            self._revoked.append(token)
            self.github.revoke(token)
            self.taken.extend((token, each) for each in TARGETS)
        else:
            self.github.set_access(target, token, rng.choice(_REFUSALS))
            self.taken.append((token, target))
        self.urgent.append((token, target))

    # Faults.

    async def _fail(self, faults: Sequence[Fault]) -> None:
        ours = [fault for fault in faults if fault.side != "github"]
        of_github = [fault for fault in faults if fault.side == "github"]
        for fault in ours:
            await fault.prepare()
        self._takes_away = True
        await asyncio.sleep(self.rng.uniform(0.2, 1.0))
        troubles = [await self._begin(fault) for fault in ours]
        if not of_github:
            await self._end(ours, troubles, 0.0)
            return
        wait_s = self.rng.choice((0.0, 0.3, 1.0))
        ends = asyncio.ensure_future(self._end(ours, troubles, wait_s))
        await asyncio.sleep(wait_s * self.rng.choice((0.0, 1.0)) + self.rng.uniform(0.0, 0.3))
        for fault in of_github:
            await self._fail_at_github(fault)
        await ends

    async def _begin(self, fault: Fault) -> Trouble:
        trouble = Trouble(fault.name, fault.side, monotonic(), replica=fault.killed)
        self.history.troubles.append(trouble)
        await fault.begin()
        trouble.alone = fault.alone
        await asyncio.sleep(self.rng.uniform(0.5, 1.0) * fault.hold_s)
        return trouble

    async def _end(self, faults: Sequence[Fault], troubles: list[Trouble], wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        for fault, trouble in zip(faults, troubles, strict=True):
            await fault.end()
            trouble.end = monotonic()

    async def _fail_at_github(self, fault: Fault) -> None:
        await self._until_settled()
        self._takes_away = False
        trouble = Trouble(fault.name, "github", monotonic())
        self.history.troubles.append(trouble)
        await fault.begin()
        self._probes = True
        await asyncio.sleep(fault.hold_s)
        await fault.end()
        trouble.end = monotonic()

    @property
    def _ended_at(self) -> float:
        return max((trouble.end for trouble in self.history.troubles), default=0.0)

    async def _recover(self) -> None:
        """Return when nothing has failed for a while."""
        self._takes_away = False
        until = monotonic() + _LONGEST_RECOVERY_S
        while monotonic() < until:
            await asyncio.sleep(0.1)
            bad = max(map(_when_bad, self.history.responses), default=0.0)
            if monotonic() - max(bad, self._ended_at) > _CALM_S:
                return

    def recovery_s(self) -> float:
        """Return how long after the last fault a request failed, or had a stale response."""
        bad = max(map(_when_bad, self.history.responses), default=0.0)
        return max(bad - self._ended_at, 0.0)


@define(eq=False)
class _Worker:
    """One client of an episode."""

    episode: Episode
    rng: random.Random
    client: Client = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.client = Client(monotonic, self.episode.version_of, self.episode.patience_s)

    async def work(self) -> None:
        """Send one request after the other, until the end."""
        episode, rng = self.episode, self.rng
        try:
            while episode.running:
                await asyncio.sleep(rng.uniform(0.0, 0.02))
                if not episode.urgent and rng.random() < 0.07:
                    first = rng.random() < 0.4
                    token = episode.tokens[0] if first else rng.choice(episode.tokens)
                    await self._write_and_read(token, rng.choice(WRITTEN))
                else:
                    await self._read(*episode.next(rng))
        finally:
            self.client.close()

    async def _read(self, token: str, target: str) -> None:
        tag = self.episode.tags.get((token, target))
        if self.rng.random() < 0.05:
            await self._send("HEAD", target, token)
        elif tag is not None and self.rng.random() < 0.15:
            await self._send("GET", target, token, fields={"If-None-Match": tag})
        else:
            await self._send("GET", target, token)

    async def _write_and_read(self, token: str, target: str) -> None:
        """Write, and read it at once, through any replica."""
        wrote = await self._send("PATCH", target, token, content=b'{"text":"new"}')
        if wrote is not None and wrote.status == 200:
            for _ in range(2):
                await self._send("GET", target, token)

    async def _send(
        self,
        method: str,
        target: str,
        token: str,
        *,
        fields: dict[str, str] | None = None,
        content: bytes = b"",
    ) -> Response | None:
        episode = self.episode
        if not episode.fleet.up:
            return None
        episode.numbers += 1
        replica = self.rng.choice(episode.fleet.up)
        sent = Sent(episode.numbers, replica.name, method, target, token)
        got = await self.client.send(sent, replica.port, fields=fields, content=content)
        episode.history.responses.append(got)
        if got.status == 200 and got.tag:
            episode.tags[token, target] = got.tag
        return got


def _when_bad(response: Response) -> float:
    return response.received_at if response.failed or response.marked == "stale" else 0.0
