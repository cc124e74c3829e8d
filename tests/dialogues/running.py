"""Runs a dialogue: a mirror in this process, clients and GitHub on real sockets around it."""

from __future__ import annotations

import gzip
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from email.utils import formatdate
from functools import singledispatchmethod
from pathlib import Path
from typing import Any, Final
from unittest import TestResult

from attrs import define, field
from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.trial.unittest import TestCase

from ghmirror_tw.config.option import ConfigError
from ghmirror_tw.config.settings import Settings
from ghmirror_tw.config.settings_loader import load
from ghmirror_tw.github.origin import Origin
from tests.dialogues import parsing
from tests.dialogues.clock import API_HOST, UPLOADS_HOST, Calm, Clock
from tests.dialogues.comparing import DialogueError, alike, differing_field, differing_line
from tests.dialogues.parsing import Dialogue, Message, OptionLine, Step, Which
from tests.dialogues.peers import (
    ClientConnection,
    Exchange,
    Lines,
    MalformedError,
    ReceivedMessage,
    Script,
    chunked,
    combined,
    joined,
    page_of,
)
from tests.dialogues.replicas import Replica, SharedRedis, ini
from tests.dialogues.tags import Content, tag_of
from tests.fakes.github import JSON, VARY
from tests.harness.home import reactor, turn

#: The time in which an expected event may still follow without others: for timers of the mirror.
PATIENCE_S: Final = 2.0
_CHECK_TARGET: Final = "/rate_limit"
_STATUS_TARGET: Final = "/_status/components.json"
_COMPUTED: Final = re.compile(
    r"(W/)?\bcomputed\b(?: for ([a-z][a-z0-9_-]*))?(?: of (\S+?)(?=, |$))?"
)
_FILLED: Final = re.compile(r"\{(mirror|host|github|uploads|folder|now|date)(?:([+-])([0-9]+))?\}")


@define(eq=False)
class Sent:
    """A request of a client's, and its connection."""

    step: parsing.ClientSends
    replica: Replica
    method: str
    target: str
    lines: Lines
    connection: ClientConnection
    read: bool = False


@define(eq=False)
class Conversation:
    """A dialogue under way. *store*: memory or redis."""

    dialogue: Dialogue
    store: str
    redis: SharedRedis
    patience_s: float = PATIENCE_S
    clock: Clock = field(factory=Clock)
    script: Script = field(factory=Script)
    replicas: dict[str, Replica] = field(factory=dict)
    sent: list[Sent] = field(factory=list)
    contents: dict[str, Content] = field(factory=dict)
    folder: Path = field(factory=lambda: Path(tempfile.mkdtemp(prefix="dialogue-")))
    page_status: str = "operational"
    _github: Any = field(init=False, default=None)
    _port: int = field(init=False, default=0)
    _line: int = field(init=False, default=1)
    _calm: Calm = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._calm = Calm(self._is_busy, self.redis.barrier)

    # The whole of it.

    async def run(self) -> None:
        """Execute all steps. Raises `DialogueError` at the first difference."""
        try:
            await self._open()
            for step in self.dialogue.steps:
                await self._calm.settle()
                self._line = step.line
                await self._take(step)
            await self._calm.settle()
            self._end()
        except CancelledError:
            raise DialogueError(self._line, "this step does not end") from None
        finally:
            await self._close()

    async def _open(self) -> None:
        self.script.by_itself = lambda each: self._status_page(each) or self._check(each)
        self._github = reactor.listenTCP(0, self.script, interface="127.0.0.1")
        self._port = self._github.getHost().port
        if self.store == "redis":
            self.redis.begin()
        names = self.dialogue.replicas
        for name in names:
            self.replicas[name] = Replica(name, Settings())
        # Only an option needs to know the port before the mirror listens.
        if any("{" in option.value for option in self.dialogue.options):
            self.replicas["A"].reserve()
        settings = self._settings()
        for replica in self.replicas.values():
            replica.settings = settings
            await replica.open(self.clock)

    async def _close(self) -> None:
        for sent in self.sent:
            if not sent.connection.ended:
                sent.connection.abort()
        for replica in self.replicas.values():
            await replica.close()
        self.script.abort_all()
        if self._github is not None:
            await maybeDeferred(self._github.stopListening)
        while self.script.connections or not all(sent.connection.ended for sent in self.sent):
            await turn()
        await self._calm.settle()
        self._calm.close()
        self.redis.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        """Find messages that no step has received, at the end."""
        last = self.dialogue.steps[-1].line
        self._no_surplus(last)
        for exchange in self.script.received:
            if not exchange.responded and not exchange.is_disconnected:
                raise DialogueError(
                    exchange.line,
                    "at the end, this request is unanswered",
                    exchange.message.shown(),
                )
        for sent in self.sent:
            if sent.read:
                continue
            response = sent.connection.response
            why = "at the end, this request has no response that was received"
            raise DialogueError(sent.step.line, why, response.shown() if response else "")

    def _no_surplus(self, line: int) -> None:
        if self.script.arrived:
            exchange = self.script.arrived[0]
            raise DialogueError(
                line, "a request reached GitHub that no step receives", exchange.message.shown()
            )

    # The setting.

    def _settings(self, replacing: tuple[OptionLine, ...] = ()) -> Settings:
        """Return the settings of the options, read by the configuration's own loader.

        Those that *replacing* has replace those of the same name.
        """
        replaced = {(option.section, option.name) for option in replacing}
        options = [
            *(each for each in self.dialogue.options if (each.section, each.name) not in replaced),
            *replacing,
        ]
        given: dict[str, dict[str, list[str]]] = {
            "github": {"api_url": [self.api_url], "status_url": [""]},
            "cache": {"backend": [self.store]},
        }
        if self.dialogue.reads_status_page:
            given["github"]["status_url"] = [f"http://{self._github_host}{_STATUS_TARGET}"]
        if self.store == "redis":
            given["redis"] = {"url": [self.redis.url], "key_prefix": [self.redis.prefix]}
        seen: set[tuple[str, str]] = set()
        for option in options:
            if (option.section, option.name) == ("github", "api_url"):
                continue
            names = given.setdefault(option.section, {})
            key = (option.section, option.name)
            if key not in seen:
                names[option.name] = []
            seen.add(key)
            names[option.name].append(self._filled(option.value, self.replicas["A"]))
        file = self.folder / "dialogue.ini"
        file.write_text("\n".join(ini(given)) + "\n")
        try:
            return load(file, {})
        except ConfigError as error:
            line = self._option_line(error, options)
            raise DialogueError(line, "; ".join(error.faults)) from None

    def _option_line(self, error: ConfigError, options: Sequence[OptionLine]) -> int:
        for option in options:
            for fault in error.faults:
                if fault.startswith((f"[{option.section}] {option.name}:", f"[{option.section}]:")):
                    return option.line
        return options[0].line if options else 1

    @property
    def _github_host(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def api_url(self) -> str:
        """Where GitHub is; where it has a host for uploads, it has a name, as that host has."""
        host = self._github_host
        if self.dialogue.has_uploads_host:
            host = f"{API_HOST}:{self._port}"
        for option in self.dialogue.options:
            if (option.section, option.name) == ("github", "api_url"):
                return option.value.replace("{github}", f"http://{host}")
        return f"http://{host}"

    @property
    def uploads_url(self) -> str:
        """The URL of GitHub's uploads."""
        url = Origin.of(self.api_url).uploads_url
        return f"{self.api_url}/api/uploads" if url is None else url.decode()

    def _status_page(self, exchange: Exchange) -> bool:
        if exchange.target != _STATUS_TARGET:
            return False
        lines = [("Content-Type", "application/json")]
        self.script.send(exchange, 200, None, lines, page_of(self.page_status))
        return True

    def _check(self, exchange: Exchange) -> bool:
        """Respond to the mirror's own check of a credential, in a file with another subject."""
        agent = combined(exchange.message.lines, "user-agent")
        if not exchange.target.endswith(_CHECK_TARGET) or agent != "ghmirror":
            return False
        for step in self.dialogue.steps:
            if isinstance(step, parsing.GitHubReceives) and _CHECK_TARGET in step.request.start:
                return False
        lines = [("Content-Type", "application/json; charset=utf-8")]
        self.script.send(exchange, 200, None, lines, b"{}")
        return True

    # Events of the dialogue.

    def _is_busy(self) -> bool:
        pool = getattr(reactor, "threadpool", None)
        busy = any(replica.is_busy for replica in self.replicas.values())
        if pool is not None and pool.started:
            busy = busy or bool(pool.working)
        return busy

    async def _reach(self, condition: Callable[[], bool]) -> bool:
        """Wait until a condition holds; return whether it does when the mirror is idle."""
        await self._calm.settle()
        until = reactor.seconds() + self.patience_s
        while not condition():
            if await self._calm.looks_calm() and reactor.seconds() > until:
                return condition()
        return True

    # Text of the file, with placeholders.

    def _filled(self, text: str, replica: Replica) -> str:
        """Return *text* with URLs and times in place of the names in braces."""

        def value(matched: re.Match[str]) -> str:
            name, sign, number = matched.groups()
            by = int(number or 0) * (-1 if sign == "-" else 1)
            match name:
                case "mirror":
                    return f"http://{replica.host}"
                case "host":
                    return replica.host
                case "github":
                    return self.api_url
                case "uploads":
                    return self.uploads_url
                case "folder":
                    return str(self.folder)
                case "now":
                    return str(int(self.clock.now) + by)
                case _:
                    return formatdate(int(self.clock.now) + by, usegmt=True)

        return _FILLED.sub(value, text)

    def _tagged(self, text: str, target: str, lines: Lines, own: Content | None = None) -> str:
        """Return *text* with entity-tags in the place of ``computed``."""

        def value(matched: re.Match[str]) -> str:
            weak, name, content = matched.groups()
            stored = own or self.contents.get(target) or Content(b"[]", VARY)
            if content is not None:
                stored = Content(content.encode(), stored.vary)
            authorization = f"token {name}" if name else combined(lines, "authorization")
            return f"{weak or ''}{tag_of(stored, lines, authorization)}"

        return _COMPUTED.sub(value, text)

    def _content(self, message: Message, replica: Replica) -> bytes | None:
        if message.content is None:
            return None
        return self._filled(message.content, replica).encode()

    # Steps.

    @singledispatchmethod
    async def _take(self, step: Step) -> None:
        raise NotImplementedError(step)

    @_take.register
    async def _(self, step: parsing.ClientSends) -> None:
        request, replica = step.request, self.replicas[step.replica]
        method, target = request.start[0], self._filled(request.start[1], replica)
        lines: Lines = []
        for name, value in (
            ("Host", replica.host),
            ("User-Agent", step.client),
            ("Authorization", f"token {step.client}"),
        ):
            if request.field(name) is None:
                lines.append((name, value))
        given = [each for each in request.fields if each.value is not None]
        plain = [(each.name, self._filled(each.value or "", replica)) for each in given]
        lines += [(name, self._tagged(value, target, lines + plain)) for name, value in plain]
        content = self._content(request, replica)
        body = b""
        if content is not None:
            if (combined(lines, "content-encoding") or "").lower() == "gzip":
                content = gzip.compress(content, mtime=0)
            body = content
            if "chunked" in (combined(lines, "transfer-encoding") or ""):
                body = chunked(content)
            elif request.field("content-length") is None:
                lines.append(("Content-Length", str(len(content))))
        version = request.start[2] if len(request.start) > 2 else "HTTP/1.1"
        head = f"{method} {target} {version}\r\n".encode()
        connection = ClientConnection(method, head + joined(lines) + b"\r\n" + body)
        self.sent.append(Sent(step, replica, method, target, lines, connection))
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", replica.port)
        await connectProtocol(endpoint, connection)
        # On a busy machine, the kernel may deliver it after the next event.
        until = reactor.seconds() + self.patience_s
        while not (connection.responded or replica.has_request_of(connection.port)):
            if reactor.seconds() > until:
                break
            await turn()

    @_take.register
    async def _(self, step: parsing.ClientSendsMore) -> None:
        sent = self._pending(step.line, step.client)
        sent.connection.send(self._filled(step.content, sent.replica).encode())

    def _pending(self, line: int, client: str, which: Which = Which()) -> Sent:  # noqa: B008
        """Return the oldest request of a client that has had no response."""
        for sent in self.sent:
            target = self._filled(which.target, sent.replica)
            if sent.read or sent.step.client != client:
                continue
            if not which or (which.method, target) == (sent.method, sent.target):
                return sent
        of = f" {which}" if which else ""
        raise DialogueError(line, f"{client} has sent no request{of} that waits for a response")

    @_take.register
    async def _(self, step: parsing.ClientReceives) -> None:
        sent = self._pending(step.line, step.client, step.which)
        connection = sent.connection
        if not await self._reach(lambda: connection.responded):
            waits = [exchange.message.shown() for exchange in self._unanswered()]
            message = ["no response has come"]
            if waits:
                message += ["", "GitHub has not responded to:", *waits]
            if connection.remains:
                message += ["", connection.remains]
            raise DialogueError(step.line, "no response has come", "\n".join(message))
        sent.read = True
        response = connection.response
        if response is None:
            why = "the connection was closed before the response was complete"
            raise DialogueError(step.line, why, connection.remains)
        if connection.remains:
            raise DialogueError(step.line, "more came than the response", connection.remains)
        self._compare_response(step.response, response, sent)

    def _unanswered(self) -> Iterator[Exchange]:
        yield from self.script.arrived
        for exchange in self.script.received:
            if not exchange.responded:
                yield exchange

    def _compare_response(self, expected: Message, message: ReceivedMessage, sent: Sent) -> None:
        status, _, reason = message.start.partition(" ")[2].partition(" ")
        if status != expected.start[0].replace("xx", status[1:]):
            why = f"the status is {status}, expected {expected.start[0]}"
            raise DialogueError(expected.line, why, message.shown())
        if len(expected.start) > 1 and reason != expected.start[1]:
            why = f"the reason phrase is {reason!r}, expected {expected.start[1]!r}"
            raise DialogueError(expected.line, why, message.shown())

        def value(text: str) -> str:
            return self._tagged(self._filled(text, sent.replica), sent.target, sent.lines)

        difference = differing_field(expected, message, value, spelled=True)
        if difference is not None:
            raise DialogueError(*difference, message.shown())
        self._compare_content(expected, message, sent.replica)

    def _compare_content(
        self, expected: Message, message: ReceivedMessage, replica: Replica
    ) -> None:
        try:
            content = message.plain
        except MalformedError as error:
            raise DialogueError(expected.line, str(error), message.shown()) from None
        if expected.empty and content:
            line = expected.line
            raise DialogueError(line, "there is content, expected none", message.shown())
        wanted = self._content(expected, replica)
        if wanted is not None and not alike(wanted.decode(), content.decode("utf-8", "replace")):
            at = differing_line(wanted.decode(), content.decode("utf-8", "replace"))
            line = min(expected.content_line + at, len(self.dialogue.lines))
            raise DialogueError(line, "the content differs", message.shown())

    @_take.register
    async def _(self, step: parsing.ClientWaits) -> None:
        waiting = [s for s in self.sent if s.step.client == step.client and not s.read]
        if not waiting:
            self._pending(step.line, step.client)
        for sent in waiting:
            response = sent.connection.response
            if response is not None or sent.connection.ended:
                message = response.shown() if response is not None else sent.connection.remains
                raise DialogueError(step.line, f"{step.client} has a response", message)

    @_take.register
    async def _(self, step: parsing.ClientCloses) -> None:
        sent = self._pending(step.line, step.client)
        sent.read = True
        sent.connection.abort()

    @_take.register
    async def _(self, step: parsing.ClientIsCutOff) -> None:
        sent = self._pending(step.line, step.client)
        connection = sent.connection
        await self._reach(lambda: connection.responded)
        if connection.response is not None:
            why = "a whole response has come, expected that the connection is closed before"
            raise DialogueError(step.line, why, connection.response.shown())
        if not connection.ended:
            raise DialogueError(step.line, "the connection is open", connection.remains)
        sent.read = True

    @_take.register
    async def _(self, step: parsing.GitHubReceives) -> None:
        await self._reach(lambda: self._matching(step) is not None)
        exchange = self._matching(step)
        if exchange is None:
            raise self._not_received(step)
        self.script.arrived.remove(exchange)
        exchange.line = step.line
        self.script.received.append(exchange)

    def _is_for(self, step: parsing.GitHubReceives, exchange: Exchange) -> bool:
        method, target = step.request.start
        target = self._filled(target, self.replicas["A"])
        is_upload = (exchange.field("host") or "").startswith(f"{UPLOADS_HOST}:")
        return (
            exchange.method == method
            and alike(target, exchange.target)
            and step.uploads is is_upload
        )

    def _matching(self, step: parsing.GitHubReceives) -> Exchange | None:
        for exchange in self.script.arrived:
            if self._is_for(step, exchange) and self._difference(step, exchange) is None:
                return exchange
        return None

    def _difference(self, step: parsing.GitHubReceives, exchange: Exchange) -> DialogueError | None:
        def value(text: str) -> str:
            filled = self._filled(text, self.replicas["A"])
            return self._tagged(filled, exchange.target, exchange.message.lines)

        difference = differing_field(step.request, exchange.message, value)
        if difference is not None:
            return DialogueError(*difference, exchange.message.shown())
        try:
            self._compare_content(step.request, exchange.message, self.replicas["A"])
        except DialogueError as error:
            return error
        return None

    def _not_received(self, step: parsing.GitHubReceives) -> DialogueError:
        for exchange in self.script.arrived:
            if self._is_for(step, exchange):
                difference = self._difference(step, exchange)
                if difference is not None:
                    return difference
        message = [exchange.message.shown() for exchange in self.script.arrived]
        why = "another request reached GitHub" if message else "no request reached GitHub"
        for sent in self.sent:
            if not message and not sent.read and sent.connection.response is not None:
                message = [f"to {sent.step.client}: {sent.connection.response.shown()}"]
        return DialogueError(step.request.line, why, "\n\n".join(message) or "nothing")

    def _waiting(
        self, line: int, which: Which, *, begun: bool = False, unanswered: bool = True
    ) -> Exchange:
        """Return the request that a step of GitHub's is about, the last of those that may be meant.

        *begun*: its response may be incomplete; *unanswered*: there may be none yet.
        """
        for exchange in reversed(self.script.received):
            if not (begun and exchange.missing) and (exchange.responded or not unanswered):
                continue
            target = self._filled(which.target, self.replicas["A"])
            of_client = f"token {which.client}" == exchange.field("authorization")
            if (
                not which
                or (which.client and of_client)
                or (which.method, target) == (exchange.method, exchange.target)
            ):
                if exchange.is_disconnected:
                    why = "the mirror has closed the connection of this request"
                    raise DialogueError(line, why, exchange.message.shown())
                return exchange
        of = f" of {which}" if which else ""
        what = "is unanswered" if unanswered else "has a part of its response"
        raise DialogueError(line, f"GitHub has received no request{of} that {what}")

    @_take.register
    async def _(self, step: parsing.GitHubSends) -> None:
        exchange = self._waiting(step.line, step.which)
        if step.response is None:
            exchange.responded = True
            return
        response, replica = step.response, self.replicas["A"]
        status = int(response.start[0])
        content = self._content(response, replica)
        lines: Lines = [
            (each.name, self._filled(each.value, replica))
            for each in response.fields
            if each.value is not None
        ]
        defaults = [("Date", formatdate(self.clock.now, usegmt=True)), ("Vary", VARY)]
        if content is not None and content[:1] in {b"{", b"["}:
            defaults.append(("Content-Type", JSON))
        lines += [pair for pair in defaults if response.field(pair[0]) is None]
        own = None
        if content is not None:
            own = Content(content, combined(lines, "vary"))
            if status == 200:
                self.contents[exchange.target] = own
        zipped = (combined(lines, "content-encoding") or "").lower() == "gzip"
        if content is not None and zipped:
            content = gzip.compress(content, mtime=0)
        message = exchange.message.lines
        lines = [
            (name, self._weakened(name, self._tagged(value, exchange.target, message, own), zipped))
            for name, value in lines
        ]
        reason = response.start[1] if len(response.start) > 1 else None
        self.script.send(exchange, status, reason, lines, content or b"")

    @_take.register
    async def _(self, step: parsing.GitHubSendsMore) -> None:
        exchange = self._waiting(step.line, step.which, begun=True, unanswered=False)
        self.script.send_more(exchange, self._filled(step.content, self.replicas["A"]).encode())

    @staticmethod
    def _weakened(name: str, value: str, zipped: bool) -> str:
        """Return a tag as GitHub sends it with compressed content."""
        if zipped and name.lower() == "etag" and value.startswith('"'):
            return f"W/{value}"
        return value

    @_take.register
    async def _(self, step: parsing.GitHubCloses) -> None:
        exchange = self._waiting(step.line, step.which, begun=True)
        exchange.responded, exchange.missing = True, 0
        exchange.connection.wire.abortConnection()

    @_take.register
    async def _(self, step: parsing.GitHubStops) -> None:
        await self._github.stopListening()
        self.script.abort_all()

    @_take.register
    async def _(self, step: parsing.GitHubStarts) -> None:
        await maybeDeferred(self._github.stopListening)
        self._github = reactor.listenTCP(self._port, self.script, interface="127.0.0.1")

    @_take.register
    async def _(self, step: parsing.NothingReaches) -> None:
        self._no_surplus(step.line)

    @_take.register
    async def _(self, step: parsing.SecondsPass) -> None:
        await self.clock.pass_(step.seconds, self.redis.pass_time, self._after_timers)
        if self.store == "redis" and self.redis.runs:
            await self._redis_is(available=True)

    async def _after_timers(self) -> None:
        if not await self._calm.looks_calm():
            await self._calm.settle()

    @_take.register
    async def _(self, step: parsing.Restarts) -> None:
        replica = self.replicas[step.replica]
        await replica.close()
        if step.options:
            replica.settings = self._settings(step.options)
        await replica.open(self.clock)

    async def _redis_is(self, available: bool) -> None:
        def holds(replica: Replica) -> bool:
            store = replica.parts.redis
            # a response is repeated only while the history is known
            return store is None or (store.available and store.history.is_known) is available

        while not all(map(holds, self.replicas.values())):
            await turn()

    @_take.register
    async def _(self, step: parsing.RedisStops) -> None:
        self.redis.stop()
        await self._redis_is(available=False)

    @_take.register
    async def _(self, step: parsing.RedisStarts) -> None:
        self.redis.start()
        await self._redis_is(available=True)

    @_take.register
    async def _(self, step: parsing.StatusPageStep) -> None:
        self.page_status = step.status
        for replica in self.replicas.values():
            page = replica.parts.status_page
            if page is not None and page.timer is not None:
                page.timer.reset(0.0)
        await self.clock.pass_(0.0, self.redis.pass_time, self._after_timers)


class _Case(TestCase):
    """Runs a dialogue on the reactor, and finds leftovers in the reactor."""

    timeout = 60
    conversation: Conversation
    failure: DialogueError | None = None

    async def test_conversation(self) -> None:
        try:
            await self.conversation.run()
        except DialogueError as error:
            self.failure = error


def run(
    dialogue: Dialogue, store: str, redis: SharedRedis, patience_s: float = PATIENCE_S
) -> DialogueError | None:
    """Run a dialogue; return its first difference, or None."""
    case = _Case("test_conversation")
    case.conversation = Conversation(dialogue, store, redis, patience_s)
    result = TestResult()
    case.run(result)
    if case.failure is not None:
        return case.failure
    for _, text in result.errors + result.failures:
        raise AssertionError(text)
    return None
