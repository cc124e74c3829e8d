"""The time for messages of clients and servers is proportional to their length.

Every compiled pattern of the package and every function of a pure room that takes bytes is
found by a program, so that a new one cannot be forgotten, and is driven with its own delimiters:
each alone, each pair, and each in front of another. What takes longer than a moment is measured at
four times the size; CPU time that grows more than in proportion is a failure.
"""

from __future__ import annotations

import ast
import gc
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, product
from time import thread_time
from typing import Any, Final

import pytest

import ghmirror_tw
from ghmirror_tw import caching, github, http
from ghmirror_tw.github.json_indenting import IndentingStream
from ghmirror_tw.github.url_rewriting import BaseUrls, Rewriter
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from ghmirror_tw.http.response_parser import ResponseParser
from ghmirror_tw.redis.resp import ReplyParser
from ghmirror_tw.snapshots.snapshot_format import MAGIC, START, VERSION, Header
from ghmirror_tw.snapshots.snapshot_reader import SnapshotReader
from tests.harness.untraced_code import untraced

SIZE: Final = 2 * 1024
TIMES: Final = 4
#: Calls with less CPU time than this at the larger size are not measured, in seconds.
MOMENT_S: Final = 0.005
#: Linear growth is 4, quadratic growth 16.
MOST_GROWTH: Final = 9.0
#: Delimiters of HTTP, URLs, JSON and RESP, and the text between them.
BYTES: Final = (
    *(bytes([each]) for each in b"\"\\,;:=<>/?&%#@.*+-_ \t\r\n()[]{}|'a1\x00\xc3"),
    b"W/",
)
#: What makes a pattern look further before it fails.
FRONTS: Final = (b"", b'"', b"<", b"{", b"a=", b"https://", b'[{"url":"', b"HTTP/1.1 200 ")

#: Functions with bytes as arguments that are not driven here, each with the reason.
EXEMPT: Final = {
    "target_memo.memoised_by_target": "a decorator",
    "validators.computed_tag": "takes a representation; hashes its content",
    "validators.confirmed_validator": "compares for equality",
    "validators.was_ignored": "compares for equality",
    "validator_ladder.first_rung": "takes records; the client's own tags go through `validators`",
    "records_from_responses.freshened": "takes a grant; joins fields",
    "staleness.stale_response_fields": "takes a grant; joins fields",
    "vary.without_other_variant": "takes records; its fields go through `vary` elsewhere",
    "representation_from_response.representation_of": "compresses and hashes in proportion",
}


def modules(package: Any) -> Iterator[Any]:
    """Return every module of a package, imported."""
    for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not each.name.endswith("__main__"):
            yield importlib.import_module(each.name)


def patterns() -> dict[str, tuple[re.Pattern[Any], set[str]]]:
    """Return the compiled patterns of the package by module and name, each with its uses."""
    found: dict[str, tuple[re.Pattern[Any], set[str]]] = {}

    def look(module: Any, name: str, value: Any, source: str) -> None:
        if isinstance(value, re.Pattern):
            used = set(re.findall(rf"\b{name}\.({'|'.join(USES)})\(", source))
            title = f"{module.__name__}.{name} {value.pattern!r}"[:150]
            if value not in {pattern for pattern, _ in found.values()}:
                found[title] = (value, used or {"match"})
        elif isinstance(value, (tuple, list)):
            for each in value:
                look(module, name, each, source)

    for module in modules(ghmirror_tw):
        source = inspect.getsource(module)
        for name, value in vars(module).items():
            look(module, name, value, source)
    return found


#: How a pattern is used, and what that does.
USES: Final[dict[str, Callable[[re.Pattern[Any], Any], Any]]] = {
    "match": lambda pattern, given: pattern.match(given),
    "fullmatch": lambda pattern, given: pattern.fullmatch(given),
    "search": lambda pattern, given: pattern.search(given),
    "finditer": lambda pattern, given: sum(1 for _ in pattern.finditer(given)),
    "findall": lambda pattern, given: pattern.findall(given),
    "split": lambda pattern, given: pattern.split(given),
    "sub": lambda pattern, given: pattern.subn(given[:0], given),
    "subn": lambda pattern, given: pattern.subn(given[:0], given),
}


def functions() -> dict[str, Callable[..., Any]]:
    """Return the public functions of the pure rooms that have bytes as arguments, in any form."""
    found = {}
    for module in chain.from_iterable(map(modules, (http, github, caching))):
        for name, value in vars(module).items():
            plain = inspect.unwrap(value) if callable(value) else value
            if not inspect.isfunction(plain) or plain.__module__ != module.__name__:
                continue
            kinds = " ".join(str(each.annotation) for each in _parameters(plain))
            if not name.startswith("_") and re.search("bytes|Fields|Request", kinds):
                found[f"{module.__name__.rpartition('.')[2]}.{name}"] = value
    return found


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(inspect.unwrap(function)).parameters.values())


def field_names(function: Callable[..., Any]) -> list[bytes]:
    """Return the names of fields that the module of a function mentions."""
    module = inspect.getmodule(inspect.unwrap(function))
    assert module is not None
    constants = (
        node.value
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes)
    )
    names = {each for each in constants if re.fullmatch(rb"[a-z]+(-[a-z]+)*", each)}
    return sorted(names | {b"accept", b"link"})


_PLAIN: Final[dict[str, Any]] = {
    "int": 200,
    "float": 1.0,
    "bool": False,
    "str": "core",
    "frozenset[str]": frozenset(),
}


def calls(function: Callable[..., Any]) -> Iterator[Callable[[bytes], Any]]:
    """Return calls of a function, each with bytes in another place."""
    parameters = _parameters(function)
    kinds = {each.name: str(each.annotation) for each in parameters}
    defaults = {each.name: each.default for each in parameters}

    def small(name: str) -> Any:
        if defaults[name] is not inspect.Parameter.empty:
            return defaults[name]
        kind = kinds[name]
        if "Fields" in kind:
            return Fields()
        if "Request" in kind:
            return Request(b"GET", b"/a", Fields())
        if kind == "Sequence[bytes]":
            return [b"a"]
        return b"a" if "bytes" in kind else _PLAIN[kind.removesuffix(" | None")]

    def call(changed: str, value: Any) -> Any:
        given = {
            each.name: value if each.name == changed else small(each.name) for each in parameters
        }
        named = {
            each.name: given.pop(each.name)
            for each in parameters
            if each.kind is inspect.Parameter.KEYWORD_ONLY
        }
        return function(*given.values(), **named)

    def made(name: str, make: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        return lambda raw: call(name, make(raw))

    def in_field(field: bytes) -> Callable[[bytes], Fields]:
        return lambda raw: Fields(((field, raw),))

    def sent(field: bytes) -> Callable[[bytes], Request]:
        return lambda raw: Request(b"GET", b"/a?page=1", Fields(((field, raw),)))

    for name, kind in kinds.items():
        if kind in {"bytes", "bytes | None"}:
            yield made(name, lambda raw: raw)
        elif kind == "Sequence[bytes]":
            yield made(name, lambda raw: [raw])
        elif kind == "Fields":
            yield from (made(name, in_field(field)) for field in field_names(function))
        elif kind == "Request":
            yield made(name, lambda raw: Request(b"GET", b"/" + raw, Fields()))
            yield from (made(name, sent(field)) for field in field_names(function))


def pumped(size: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Return the beginnings, repeated parts and ends of what is driven into a parser."""
    units = [*BYTES, *(one + other for one, other in product(BYTES, BYTES) if one != other)]
    for unit in units:
        yield b"", unit * (size // len(unit)), b""
    for front, unit in product(FRONTS[1:], BYTES):
        yield front, unit * (size // len(unit)), b"\x00"


def cost_s(call: Callable[[bytes], Any], raw: bytes) -> float:
    """Return the CPU time of a call, in seconds; for a short one the least of three."""
    best = None
    for _ in range(3):
        began = thread_time()
        # Before a refusal the input has been read.
        with suppress(Exception):
            result = call(raw)
            if inspect.isgenerator(result):
                list(result)
        took = thread_time() - began
        best = took if best is None else min(best, took)
        if best < MOMENT_S:
            break
    assert best is not None
    return best


def grows_too_fast(call: Callable[[bytes], Any]) -> list[bytes]:
    """Return the inputs with more than proportional time, by their beginning.

    A suspicion is confirmed at the next larger size: one figure may hold a garbage collection, or
    the compilation of a function.
    """
    larger = pumped(TIMES * SIZE)
    with untraced():
        for (front, unit, end), (_, more, _) in zip(pumped(SIZE), larger, strict=True):
            long_s = cost_s(call, front + more + end)
            if long_s < MOMENT_S or long_s <= MOST_GROWTH * cost_s(call, front + unit + end):
                continue
            gc.collect()
            long_s = cost_s(call, front + more + end)
            if cost_s(call, front + more * TIMES + end) > MOST_GROWTH * long_s:
                return [(front + unit)[:16]]
    return []


def test_growth_is_found() -> None:
    """A pattern that backtracks is found, and one that does not is not."""
    slow = re.compile(rb"[ \t,]*(?:a|[^,]+;)")
    quick = re.compile(rb"[^,]++|,")
    assert grows_too_fast(lambda raw: sum(1 for _ in slow.finditer(raw)))
    assert not grows_too_fast(lambda raw: sum(1 for _ in quick.finditer(raw)))


@pytest.mark.parametrize("name", sorted(patterns()))
def test_patterns(name: str) -> None:
    """In each way in which its module uses a pattern; matched in place where none is seen."""
    pattern, used = patterns()[name]
    text = isinstance(pattern.pattern, str)

    def using(use: str) -> Callable[[bytes], Any]:
        return lambda raw: USES[use](pattern, raw.decode("latin-1") if text else raw)

    assert not [use for use in sorted(used) if grows_too_fast(using(use))]


@pytest.mark.parametrize("name", sorted(set(functions()) - set(EXEMPT)))
def test_functions(name: str) -> None:
    """Whichever argument, or field of a message, is long."""
    function = functions()[name]
    try:
        driven = list(calls(function))
        for call in driven:
            try:
                call(b"a")
            except (KeyError, TypeError):
                raise
            except Exception:
                continue
    except (KeyError, TypeError) as error:
        pytest.fail(f"{name} cannot be called from here ({error!r}); put it into EXEMPT, with why")
    assert driven
    for call in driven:
        assert not grows_too_fast(call)


# Input in pieces.

PIECE_BYTES: Final = 64


def pieces(raw: bytes) -> Iterator[bytes]:
    """Return *raw* as a slow sender sends it."""
    for at in range(0, len(raw), PIECE_BYTES):
        yield raw[at : at + PIECE_BYTES]


def _feed_head(raw: bytes) -> None:
    heads = ResponseParser(to_head=False)
    for piece in pieces(b"HTTP/1.1 200 OK\r\nA: " + raw):
        heads.find(piece)


def _feed_rewriting(raw: bytes) -> None:
    stream = Rewriter(b"https://api.github.com").stream(BaseUrls(b"http://mirror", b""))
    for piece in pieces(b"[" + raw):
        stream.feed(piece)
    stream.close()


def _feed_indenting(raw: bytes) -> None:
    stream = IndentingStream()
    for piece in pieces(b"[" + raw):
        stream.feed(piece)
    stream.close()


def _feed_redis(raw: bytes) -> None:
    parser = ReplyParser()
    for piece in pieces(raw):
        if parser.feed(piece):
            while parser.next_reply() is not None:
                pass


def _feed_snapshot(raw: bytes) -> None:
    reader = SnapshotReader()
    header = Header("owner", "memory", 0).encode()
    for piece in pieces(START.pack(MAGIC, VERSION, len(header)) + header + raw):
        list(reader.feed(piece))


@pytest.mark.parametrize(
    "feed",
    [
        _feed_head,
        _feed_rewriting,
        _feed_indenting,
        _feed_redis,
        _feed_snapshot,
    ],
)
def test_input_in_pieces(feed: Callable[[bytes], None]) -> None:
    """A parser does not read again what it has read; a CONNECT response has its own small limit."""
    assert not grows_too_fast(feed)


def test_exempt_functions_exist() -> None:
    """The list has no entry too many."""
    assert not set(EXEMPT) - set(functions())
