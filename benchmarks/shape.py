"""The size of the code and of its parts, and the calls of one request.

    python -m benchmarks.shape
    python -m benchmarks.shape --json shape.json

A confirmed GET, which is sent after another one on the same connection, is traced in this process
with `sys.setprofile`. A call is an entry into a function of the package; a coroutine counts once,
however often it is resumed.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import sys
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from inspect import CO_COROUTINE
from pathlib import Path
from types import FrameType
from typing import Any, Final

from attrs import define, field
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from tests.harness.home import open_home
from tests.harness.redis_servers import RedisServer

reactor: Any = global_reactor

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = "ghmirror_tw"
LARGE_CLASS: Final = 250
LARGE_FUNCTION: Final = 40
#: A generated table.
_GENERATED: Final = "pagination_table.py"
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(folder: str) -> list[Path]:
    """Return the Python files below a folder of the repository."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return [path for path in paths if "node_modules" not in path.parts and path.name != _GENERATED]


def code_lines(text: str) -> int:
    """Return the number of lines with code: without blank lines, comments and docstrings."""
    skipped = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENCODING,
        tokenize.ENDMARKER,
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | _Function) and ast.get_docstring(node):
            first = node.body[0]
            lines.difference_update(range(first.lineno, (first.end_lineno or 0) + 1))
    return len(lines)


def definitions(kind: Any) -> Iterator[tuple[str, ast.ClassDef | _Function]]:
    """Return the classes or functions of the package, each with its module."""
    for path in files(PACKAGE):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kind):
                yield str(path.relative_to(ROOT / PACKAGE)), node


def length(node: ast.ClassDef | _Function) -> int:
    """Return the number of lines of a definition."""
    return (node.end_lineno or 0) - node.lineno + 1


def over(kind: Any, most: int) -> list[str]:
    """Return the definitions with more lines than *most*, the largest first."""
    large = [
        (length(node), module, node.name)
        for module, node in definitions(kind)
        if length(node) > most
    ]
    return [f"{module}:{name} {size}" for size, module, name in sorted(large, reverse=True)]


def used_twice() -> list[str]:
    """Return the names of several classes; leading underscores are ignored."""
    names = Counter(node.name.lstrip("_") for _, node in definitions(ast.ClassDef))
    return sorted(name for name, count in names.items() if count > 1)


def privates() -> int:
    """Count the uses of private attributes of other objects in tests."""
    found = 0
    for path in files("tests"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
                found += not (own or node.attr.startswith("__"))
    return found


@define
class CallCounter:
    """The calls, coroutines and modules of the package in one request."""

    calls: int = 0
    coroutines: int = 0
    modules: set[str] = field(factory=set)
    _resumed: dict[int, FrameType] = field(factory=dict)

    def note(self, frame: FrameType, event: str, _argument: object) -> None:
        """Count a call; for `sys.setprofile`."""
        name = frame.f_code.co_filename
        if event != "call" or f"/{PACKAGE}/" not in name:
            return
        if frame.f_code.co_flags & CO_COROUTINE:
            if self._resumed.get(id(frame)) is frame:
                return
            self._resumed[id(frame)] = frame
            self.coroutines += 1
        self.calls += 1
        self.modules.add(name)


class UncountedClient(Protocol):
    """A client with one connection, whose own calls are not counted."""

    def __init__(self) -> None:
        self.received = b""
        self.complete: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Detect the end of the response by its last bytes."""
        self.received += data
        if self.received.endswith((b"}", b"\r\n0\r\n\r\n")):
            complete, self.complete = self.complete, Deferred()
            complete.callback(None)

    async def get(self) -> bytes:
        """Send a request and return the response."""
        self.received = b""
        complete = self.complete
        assert self.transport is not None
        self.transport.write(
            b"GET /repos/o/r HTTP/1.1\r\nHost: mirror\r\nAuthorization: token alice-1\r\n"
            b"User-Agent: shape\r\nAccept: application/vnd.github+json\r\n\r\n"
        )
        await complete
        return self.received


class _Cleanups:
    """The part of a test case that `open_home` uses."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], Any]] = []

    def addCleanup(self, call: Callable[..., Any], *args: Any) -> None:
        self.calls.append((call, args))


async def count_calls(**sections: Any) -> CallCounter:
    """Count the calls of a confirmed GET in a mirror with *sections*."""
    cleanups: Any = _Cleanups()
    home = await open_home(cleanups, **sections)
    home.github.put("/repos/o/r", {"name": "r"})
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", home.port)
    client = await connectProtocol(endpoint, UncountedClient())
    for _ in range(5):
        await client.get()
    counter = CallCounter()
    sys.setprofile(counter.note)
    try:
        received = await client.get()
    finally:
        sys.setprofile(None)
    assert b"ghmirror; hit; detail=revalidated" in received or b"revalidated" in received, received
    client.transport.loseConnection()
    for call, args in reversed(cleanups.calls):
        await call(*args)
    return counter


def figures() -> dict[str, Any]:
    """Return the figures of the source files."""
    own, tests = files(PACKAGE), files("tests")
    return {
        "modules": len(own),
        "lines": sum(len(path.read_text().splitlines()) for path in own),
        "lines of code": sum(code_lines(path.read_text()) for path in own),
        "lines of tests": sum(len(path.read_text().splitlines()) for path in tests),
        f"classes above {LARGE_CLASS} lines": over(ast.ClassDef, LARGE_CLASS),
        f"functions above {LARGE_FUNCTION} lines": over(_Function, LARGE_FUNCTION),
        "class names used twice": used_twice(),
        "tests reaching into privates": privates(),
    }


async def _measure(found: dict[str, Any]) -> None:
    with RedisServer() as server:
        host, port = server.address
        redis = {"url": f"redis://{host}:{port}"}
        counters = {
            "memory": await count_calls(),
            "redis": await count_calls(cache={"backend": "redis"}, redis=redis),
        }
    for store, counter in counters.items():
        found[f"confirmed GET, {store}: calls"] = counter.calls
        found[f"confirmed GET, {store}: coroutines"] = counter.coroutines
        found[f"confirmed GET, {store}: modules"] = len(counter.modules)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="also write them to this file")
    options = parser.parse_args()
    found = figures()
    reactor.callWhenRunning(
        lambda: Deferred.fromCoroutine(_measure(found)).addBoth(_end, found, options.json)
    )
    reactor.run()


def _end(failure: Any, found: dict[str, Any], path: Path | None) -> None:
    if failure is not None:
        print(failure)
    for name, value in found.items():
        print(f"{name:40} {len(value) if isinstance(value, list) else value}")
        if isinstance(value, list):
            print("".join(f"    {each}\n" for each in value), end="")
    if path is not None:
        path.write_text(json.dumps(found, indent=2) + "\n")
    reactor.stop()


if __name__ == "__main__":
    main()
