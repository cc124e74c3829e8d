"""Workers that send commands to servers all the time, and note their failures."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from ghmirror_tw.redis.redis_node import RedisNode
from ghmirror_tw.redis.server_endpoint import Credentials
from ghmirror_tw.redis.servers_interface import Command, IServers, Purpose, RedisUnavailableError
from tests.unit.redis.watched_nodes import TIMEOUT_S, command

_BOTH = "return {redis.call(ARGV[1], KEYS[1]), redis.call(ARGV[1], KEYS[2])}"
_PAUSE_S = 0.002


def maker(login: Credentials | None = None, **changes: Any) -> Callable[..., RedisNode]:
    """Return a factory for the nodes of a cluster, or of a service under Sentinels."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    given: dict[str, Any] = {
        "reactor": reactor,
        "pool_size": 2,
        "timeout_s": TIMEOUT_S,
        "credentials": lambda: login or Credentials(),
        "trust": None,
        "database": 0,
        "probe_key": b"t:probe",
        "random": random.random,
    }
    return partial(RedisNode, **{**given, **changes})


async def until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    while not condition():
        await deferLater(reactor, _PAUSE_S)


async def aside(act: Callable[..., Any], *arguments: Any) -> Any:
    """Run a blocking function in a thread, and return its result."""
    return await deferToThread(act, *arguments)


@define(eq=False)
class Worker:
    """Counts up two keys of its own, and looks at them; *tag* is theirs.

    *paired*: a script does so with both, too. *strict*: each number must be as it was left, so
    nothing may be lost or done twice.
    """

    servers: IServers
    tag: str
    name: str
    paired: bool = True
    strict: bool = True
    timeout_s: float = TIMEOUT_S
    stopped: bool = False
    done: int = 0
    tried: int = 0
    failures: Counter[str] = field(factory=Counter)
    wrong: list[str] = field(factory=list)

    def key(self, part: str) -> str:
        return f"t:{{{self.tag}}}:{self.name}{part}"

    async def run(self) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        while not self.stopped:
            try:
                await self.turn()
            except RedisUnavailableError as error:
                self.failures[error.reason] += 1
                await deferLater(reactor, _PAUSE_S)
            except Exception as error:
                self.wrong.append(repr(error))
                return

    async def turn(self) -> None:
        keys = [f"t:{{{self.tag}}}:{self.name}{part}" for part in "ab"]
        changes = [command("INCR", key) for key in keys]
        looks = [command("GET", key) for key in keys]
        last = self.tried * (2 if self.paired else 1)
        self.tried += 1
        expected: list[Any] = [last + 1, last + 1]
        if self.paired:
            script = command("EVALSHA", "0" * 40, "2", *keys, "INCR", script=_BOTH)
            changes.append(script)
            expected.append([last + 2, last + 2])
            script = command("EVALSHA", "0" * 40, "2", *keys, "GET", script=_BOTH)
            looks += [script, command("MGET", *keys)]
        await self.see(Purpose.WRITE, changes, expected)
        left = str(last + (2 if self.paired else 1)).encode()
        await self.see(Purpose.CURRENT, looks, [left, left, [left, left], [left, left]])
        self.done += 1

    async def see(self, purpose: Purpose, commands: list[Command], expected: list[Any]) -> None:
        got = await self.execute(purpose, *commands)
        if self.strict and got != expected[: len(commands)]:
            self.wrong.append(f"{expected}: {got}")

    def execute(self, purpose: Purpose, *commands: Command) -> Deferred[list[Any]]:
        return self.servers.send(self.tag.encode(), commands, purpose, self.timeout_s)


@define(eq=False)
class Load:
    """Workers, each with a hash tag of its own or with a common one."""

    workers: list[Worker]
    ended: Deferred[Any] | None = None

    @classmethod
    def on(cls, case: TestCase, servers: IServers, *tags: str, **how: Any) -> Load:
        """Begin to send commands, until the end of the test at the latest."""
        load = cls([Worker(servers, tag, str(index), **how) for index, tag in enumerate(tags)])
        load.ended = gatherResults([Deferred.fromCoroutine(each.run()) for each in load.workers])
        case.addCleanup(load.stop)
        return load

    async def continues(self, turns: int = 20) -> None:
        """Return when each worker has done *turns* more, or has received a wrong reply."""
        goal = {id(worker): worker.done + turns for worker in self.workers}
        await until(
            lambda: all(worker.done >= goal[id(worker)] or worker.wrong for worker in self.workers)
        )

    def stop(self) -> Deferred[Any]:
        """Stop all workers, and fire when no command is under way."""
        for worker in self.workers:
            worker.stopped = True
        assert self.ended is not None
        former, self.ended = self.ended, Deferred()
        former.chainDeferred(self.ended)
        return former

    @property
    def failures(self) -> Counter[str]:
        """How often commands failed, by reason."""
        return sum((worker.failures for worker in self.workers), Counter[str]())

    @property
    def wrong(self) -> list[str]:
        """Replies that are wrong."""
        return [text for worker in self.workers for text in worker.wrong]
