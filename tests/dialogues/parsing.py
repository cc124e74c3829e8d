"""Dialogues as values, parsed line by line from a text file; README.rst has the format.

Pure: the input is a text, the output a `Dialogue` or a `DialogueSyntaxError` with a line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from attrs import field, frozen

INDENT: Final = "    "
REPLICAS: Final = ("A", "B", "C")
STORES: Final = ("memory", "redis")
GITHUB_SIDE: Final = frozenset({"github", "uploads"})
STATUSES: Final = (
    "operational",
    "degraded_performance",
    "partial_outage",
    "major_outage",
    "under_maintenance",
)
_RESERVED: Final = frozenset({"github", "uploads", "redis", "status", "nothing", "store"})

_OPTION: Final = re.compile(r"\[([a-z]+)\]\s+([a-z0-9_]+)\s*=\s*(.*)")
_STORE: Final = re.compile(r"store:\s*(\S*)")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")
_REQUEST_LINE: Final = re.compile(r"([A-Za-z]+) (\S+)(?: (HTTP/\d\.\d))?")
_STATUS_LINE: Final = re.compile(r"(\d{3})(?: (.+))?")
_STATUS_CLASS: Final = re.compile(r"([1-5]xx)")
_FIELD: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*)")
_NO_FIELD: Final = re.compile(r"no ([!#$%&'*+.^_`|~0-9A-Za-z-]+)")
_REPEAT: Final = re.compile(r'repeat ([0-9]+) "(.*)"')
_PASS: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) seconds? pass(?:es)?")

_STEPS: Final = (
    "expected a step: NAME sends | NAME sends more | NAME receives | NAME waits | NAME closes | "
    "NAME is cut off | github receives | github sends | github sends more | github closes | "
    "github stops | github starts | nothing reaches github | N seconds pass | A restarts | "
    "redis stops | redis starts | status page shows STATUS"
)


class DialogueSyntaxError(Exception):
    """A file is no dialogue: the wrong *line* (from 1), the reason, and what was expected."""

    def __init__(self, path: str, line: int, why: str) -> None:
        super().__init__(f"{path}:{line}: {why}")
        self.path = path
        self.line = line
        self.why = why


@frozen
class FieldLine:
    """A line of a message: a field and its value; *value* None: ``no Field``."""

    name: str
    value: str | None
    line: int


@frozen
class Message:
    """A request or response as the file has it: *start* has the parts of its first line.

    *content* is None where the file has none; *empty*: the file has ``no content``.
    """

    start: tuple[str, ...]
    fields: tuple[FieldLine, ...]
    content: str | None
    line: int
    content_line: int
    empty: bool = False

    def field(self, name: str) -> FieldLine | None:
        """Return the line of a field by its case-insensitive name."""
        return next((each for each in self.fields if each.name.lower() == name.lower()), None)


@frozen
class Which:
    """Which of several requests a step is about: by method and target, or by client."""

    method: str = ""
    target: str = ""
    client: str = ""

    def __bool__(self) -> bool:
        return bool(self.method or self.client)

    def __str__(self) -> str:
        return self.client or f"{self.method} {self.target}"


@frozen
class ClientSends:
    line: int
    client: str
    request: Message
    replica: str = "A"


@frozen
class ClientSendsMore:
    line: int
    client: str
    content: str


@frozen
class ClientReceives:
    line: int
    client: str
    response: Message
    which: Which = Which()


@frozen
class ClientWaits:
    line: int
    client: str


@frozen
class ClientCloses:
    line: int
    client: str


@frozen
class ClientIsCutOff:
    line: int
    client: str


@frozen
class GitHubReceives:
    line: int
    request: Message
    uploads: bool = False


@frozen
class GitHubSends:
    """*response* None: nothing is sent, now or later."""

    line: int
    response: Message | None
    which: Which = Which()


@frozen
class GitHubSendsMore:
    line: int
    content: str
    which: Which = Which()


@frozen
class GitHubCloses:
    line: int
    which: Which = Which()


@frozen
class GitHubStops:
    line: int


@frozen
class GitHubStarts:
    line: int


@frozen
class NothingReaches:
    line: int


@frozen
class SecondsPass:
    line: int
    seconds: float


@frozen
class OptionLine:
    """An option of the configuration, as a file has it."""

    section: str
    name: str
    value: str
    line: int


@frozen
class Restarts:
    """A restart; the *options* replace those of the same name."""

    line: int
    replica: str
    options: tuple[OptionLine, ...] = ()


@frozen
class RedisStops:
    line: int


@frozen
class RedisStarts:
    line: int


@frozen
class StatusPageStep:
    line: int
    status: str


Step: TypeAlias = (
    ClientSends
    | ClientSendsMore
    | ClientReceives
    | ClientWaits
    | ClientCloses
    | ClientIsCutOff
    | GitHubReceives
    | GitHubSends
    | GitHubSendsMore
    | GitHubCloses
    | GitHubStops
    | GitHubStarts
    | NothingReaches
    | SecondsPass
    | Restarts
    | RedisStops
    | RedisStarts
    | StatusPageStep
)


_SIMPLE: Final[dict[str, Callable[[int], Step]]] = {
    "nothing reaches github": NothingReaches,
    "github stops": GitHubStops,
    "github starts": GitHubStarts,
    "redis stops": RedisStops,
    "redis starts": RedisStarts,
}


@frozen
class Dialogue:
    """One file: the behaviour in a sentence, options, and steps in order."""

    path: str
    lines: tuple[str, ...] = field(repr=False)
    title: str
    options: tuple[OptionLine, ...]
    steps: tuple[Step, ...]
    stores: tuple[str, ...]

    @property
    def replicas(self) -> tuple[str, ...]:
        """The replicas of the dialogue: A, and others that a step names."""
        named = {step.replica for step in self.steps if isinstance(step, ClientSends | Restarts)}
        return tuple(each for each in REPLICAS if each == "A" or each in named)

    @property
    def reads_status_page(self) -> bool:
        """Whether there is a status page."""
        return any(isinstance(step, StatusPageStep) for step in self.steps)

    @property
    def has_uploads_host(self) -> bool:
        """Whether GitHub has a host for uploads."""
        return any(isinstance(step, GitHubReceives) and step.uploads for step in self.steps) or (
            any("{uploads}" in line for line in self.lines)
        )


@frozen
class _Block:
    """Indented lines, without their indentation, and the number of the first."""

    lines: tuple[str, ...]
    first: int


def parse(path: str, text: str) -> Dialogue:
    """Return the dialogue that *text* is. Raises `DialogueSyntaxError`."""
    return _Parser(path, text.splitlines()).parse()


class _Parser:
    """Parses a file from its first line to its last."""

    def __init__(self, path: str, lines: Sequence[str]) -> None:
        self.path = path
        self.lines = tuple(lines)
        self.at = 0
        self.options: list[OptionLine] = []
        self.steps: list[Step] = []
        self.store = ""
        self.store_line = 0

    def wrong(self, line: int, why: str) -> DialogueSyntaxError:
        return DialogueSyntaxError(self.path, line, why)

    def parse(self) -> Dialogue:
        title = self.lines[0].strip() if self.lines else ""
        if not title or title.startswith(("#", "[")) or self.lines[0].startswith(" "):
            raise self.wrong(1, "no behaviour; expected one sentence in the first line")
        if self._is_step(title):
            raise self.wrong(1, "a step; expected one sentence, the behaviour, in the first line")
        self.at = 1
        while self.at < len(self.lines):
            self._line()
        if not self.steps:
            raise self.wrong(len(self.lines), "no steps; " + _STEPS)
        dialogue = Dialogue(
            self.path, self.lines, title, tuple(self.options), tuple(self.steps), self._stores()
        )
        several = len(dialogue.replicas) > 1
        on_redis = several or any(isinstance(s, RedisStops | RedisStarts) for s in self.steps)
        if on_redis and self.store == "memory":
            raise self.wrong(self.store_line, "memory; expected redis, which the steps need")
        return dialogue

    def _stores(self) -> tuple[str, ...]:
        if self.store:
            return (self.store,)
        for step in self.steps:
            if isinstance(step, RedisStops | RedisStarts):
                return ("redis",)
            if isinstance(step, ClientSends | Restarts) and step.replica != "A":
                return ("redis",)
        return STORES

    def _is_step(self, text: str) -> bool:
        words = text.rstrip(":").split()
        verbs = {"sends", "receives", "waits", "closes", "restarts", "pass"}
        return len(words) <= 5 and bool(verbs.intersection(words)) and not text.endswith(".")

    def _line(self) -> None:
        text, number = self.lines[self.at].rstrip(), self.at + 1
        self.at += 1
        if not text or text.startswith("#"):
            return
        if text.startswith((" ", "\t")):
            why = "an indented line that belongs to no step; expected a step or an option"
            raise self.wrong(number, why)
        if text.startswith("["):
            self._option(text, number)
        elif (matched := _STORE.fullmatch(text)) is not None:
            self._take_store(matched[1], number)
        else:
            self.steps.append(self._step(text, number, self._block()))

    def _option(self, text: str, number: int) -> None:
        option = self._option_of(text, number)
        if self.steps:
            raise self.wrong(number, "an option after a step; expected options before all steps")
        self.options.append(option)

    def _option_of(self, text: str, number: int) -> OptionLine:
        matched = _OPTION.fullmatch(text)
        if matched is None:
            raise self.wrong(number, "no option; expected [section] name = value")
        return OptionLine(matched[1], matched[2], matched[3].strip(), number)

    def _take_store(self, name: str, number: int) -> None:
        if name not in STORES:
            raise self.wrong(number, f"store {name!r}; expected store: memory or store: redis")
        if self.steps:
            raise self.wrong(number, "store: after a step; expected it before all steps")
        if self.store:
            raise self.wrong(number, "a second store:; expected one at most")
        self.store, self.store_line = name, number

    def _block(self) -> _Block | None:
        """Read the indented lines that follow, without blank ones at their end."""
        first, taken = self.at, []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.startswith(INDENT):
                taken.append(line[len(INDENT) :])
            elif not line.strip():
                taken.append("")
            elif line.startswith((" ", "\t")):
                raise self.wrong(self.at + 1, "expected an indentation of four spaces")
            else:
                break
            self.at += 1
        while taken and not taken[-1].strip():
            taken.pop()
        blank = 0
        while blank < len(taken) and not taken[blank].strip():
            blank += 1
        if blank and taken[blank:]:
            raise self.wrong(first + 1, "a blank line; expected the message below its step")
        self.at = first + len(taken)
        return _Block(tuple(taken), first + 1) if taken else None

    # Steps.

    def _step(self, text: str, number: int, block: _Block | None) -> Step:
        words = text.split()
        if words[1:] == ["restarts", "with"]:
            return self._restart(words[0], number, block)
        step = self._bare_step(text, words, number)
        if step is not None:
            if block is not None:
                raise self.wrong(block.first, f"nothing belongs below {text!r}; expected a step")
            return step
        name, verb, more = words[0], words[1] if len(words) > 1 else "", words[2:]
        if verb not in {"sends", "receives"}:
            raise self.wrong(number, f"{text!r} is no step; {_STEPS}")
        if verb == "sends" and more[:1] == ["more"]:
            return self._more(name, more[1:], number, block)
        if name in GITHUB_SIDE:
            if verb == "receives":
                if more:
                    raise self.wrong(number, f"{' '.join(more)!r}; expected only {name} receives")
                request = self._request(block, number, expected=True)
                return GitHubReceives(number, request, name == "uploads")
            return GitHubSends(number, self._response(block, number), self._which(more, number))
        self._check_client(name, number)
        if verb == "sends":
            replica = self._replica_of(more, number)
            return ClientSends(number, name, self._request(block, number), replica)
        which = self._which(more, number, word="for")
        return ClientReceives(number, name, self._response(block, number, expected=True), which)

    def _restart(self, name: str, number: int, block: _Block | None) -> Step:
        if name not in REPLICAS:
            raise self.wrong(number, f"replica {name!r}; expected A, B or C")
        if block is None:
            raise self.wrong(number, "no options; expected some below")
        lines = enumerate(block.lines, block.first)
        return Restarts(number, name, tuple([self._option_of(line, at) for at, line in lines]))

    def _more(self, name: str, words: list[str], number: int, block: _Block | None) -> Step:
        if block is None:
            raise self.wrong(number, "no content; expected some below")
        content = self._content(block, 0)
        if name in GITHUB_SIDE:
            return GitHubSendsMore(number, content, self._which(words, number))
        self._check_client(name, number)
        if words:
            raise self.wrong(number, f"{' '.join(words)!r}; expected only {name} sends more")
        return ClientSendsMore(number, name, content)

    def _bare_step(self, text: str, words: list[str], number: int) -> Step | None:
        """Return a step that has no message, or None."""
        if (matched := _PASS.fullmatch(text)) is not None:
            return SecondsPass(number, float(matched[1]))
        if text in _SIMPLE:
            return _SIMPLE[text](number)
        if words[:3] == ["status", "page", "shows"]:
            if len(words) != 4 or words[3] not in STATUSES:
                raise self.wrong(number, f"no status; expected one of {', '.join(STATUSES)}")
            return StatusPageStep(number, words[3])
        if len(words) == 2 and words[1] == "restarts":
            if words[0] not in REPLICAS:
                raise self.wrong(number, f"replica {words[0]!r}; expected A, B or C")
            return Restarts(number, words[0])
        if words[0] in GITHUB_SIDE and words[1:2] == ["closes"]:
            return GitHubCloses(number, self._which(words[2:], number))
        if words[0] in GITHUB_SIDE and words[1:3] == ["sends", "nothing"]:
            return GitHubSends(number, None, self._which(words[3:], number))
        for verb, kind in (("waits", ClientWaits), ("closes", ClientCloses)):
            if len(words) == 2 and words[1] == verb:
                self._check_client(words[0], number)
                return kind(number, words[0])
        if words[1:] == ["is", "cut", "off"]:
            self._check_client(words[0], number)
            return ClientIsCutOff(number, words[0])
        return None

    def _check_client(self, name: str, number: int) -> None:
        if name in _RESERVED or _NAME.fullmatch(name) is None:
            raise self.wrong(number, f"{name!r} is no client; expected a name in lower case")

    def _replica_of(self, words: list[str], number: int) -> str:
        if not words:
            return "A"
        if len(words) != 2 or words[0] != "to" or words[1] not in REPLICAS:
            raise self.wrong(number, f"{' '.join(words)!r}; expected to A, to B or to C")
        return words[1]

    def _which(self, words: list[str], number: int, word: str = "to") -> Which:
        if not words:
            return Which()
        if words[0] == word and len(words) == 3:
            return Which(method=words[1], target=words[2])
        if words[0] == word == "to" and len(words) == 2 and _NAME.fullmatch(words[1]):
            return Which(client=words[1])
        client = " or to CLIENT" if word == "to" else ""
        raise self.wrong(number, f"{' '.join(words)!r}; expected {word} METHOD TARGET{client}")

    # Messages.

    def _request(self, block: _Block | None, number: int, *, expected: bool = False) -> Message:
        what = "expected a request below, such as GET /user"
        if block is None:
            raise self.wrong(number, f"no request; {what}")
        matched = _REQUEST_LINE.fullmatch(block.lines[0].rstrip())
        if matched is None:
            raise self.wrong(block.first, f"no request line; {what}")
        start = tuple(part for part in matched.groups() if part is not None)
        if expected and len(start) > 2:
            raise self.wrong(block.first, "an HTTP version; expected METHOD TARGET")
        return self._message(start, block, expected=expected)

    def _response(self, block: _Block | None, number: int, *, expected: bool = False) -> Message:
        what = "expected a response below, that begins with its status, such as 200"
        if block is None:
            raise self.wrong(number, f"no response; {what}")
        first = block.lines[0].rstrip()
        matched = _STATUS_LINE.fullmatch(first)
        if matched is None and expected:
            matched = _STATUS_CLASS.fullmatch(first)
        if matched is None:
            raise self.wrong(block.first, f"no status; {what}")
        start = tuple(part for part in matched.groups() if part is not None)
        return self._message(start, block, expected=expected)

    def _message(self, start: tuple[str, ...], block: _Block, *, expected: bool) -> Message:
        fields: list[FieldLine] = []
        empty = False
        content: str | None = None
        content_line = block.first
        for at, line in enumerate(block.lines[1:], start=1):
            number = block.first + at
            if not line.strip():
                content = self._content(block, at + 1)
                content_line = number + 1
                break
            if line.rstrip() == "no content":
                if not expected:
                    raise self.wrong(number, "no content; expected that only in what is received")
                empty = True
                continue
            fields.append(self._field(line.rstrip(), number))
        if empty and content is not None:
            raise self.wrong(content_line, "content after no content; expected one of them")
        return Message(start, tuple(fields), content, block.first, content_line, empty)

    def _field(self, text: str, number: int) -> FieldLine:
        if (matched := _NO_FIELD.fullmatch(text)) is not None:
            return FieldLine(matched[1], None, number)
        if (matched := _FIELD.fullmatch(text)) is not None:
            return FieldLine(matched[1], matched[2], number)
        raise self.wrong(
            number, f"{text!r} is no field; expected Name: value, no Name, or a blank line"
        )

    def _content(self, block: _Block, at: int) -> str:
        lines = []
        for number, line in enumerate(block.lines[at:], start=block.first + at):
            if line.startswith("repeat "):
                matched = _REPEAT.fullmatch(line.rstrip())
                if matched is None:
                    raise self.wrong(number, 'a repeat; expected repeat N "text"')
                lines.append(int(matched[1]) * matched[2])
            else:
                lines.append(line)
        return "\n".join(lines)
