"""The corpus of the fuzzers is replayed, and every parser has a fuzzer."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import ghmirror_tw
from tests.fuzz.keep import LONGEST_BYTES, MOST
from tests.fuzz.targets import CORPUS, TARGETS, inputs
from tests.rules.test_linear_time import EXEMPT, functions, modules

ROOT: Final = Path(__file__).parent.parent.parent

#: Functions with input from outside in rooms that are not pure, by the names of their parameters.
_PARSERS: Final = re.compile(
    r"dataReceived|lineReceived|rawDataReceived|feed|decode|parse|(parse|read|open)_\w+"
)

#: Functions with such a name that no fuzzer drives, each with the reason.
OTHERS: Final = {
    "ghmirror_tw.config.option:Option.parse": "configuration",
    "ghmirror_tw.config.ini_file:parse_ini": "configuration",
    "ghmirror_tw.config.file_kinds:read_secret": "configuration",
    "ghmirror_tw.config.file_kinds:read_text": "configuration",
    "ghmirror_tw.cli.snapshot_context:open_context": "opens a store",
    "ghmirror_tw.config.settings_loader:read_settings": "configuration",
    "ghmirror_tw.upstream.proxy_tunnel:_TunnelProtocol.dataReceived": "passes on to `Proxy.opened`",
    "ghmirror_tw.upstream.upstream_content:UpstreamContent.dataReceived": "gathers content",
    "ghmirror_tw.redis.resp:StrictProtocol.dataReceived": "passes on to `ReplyParser`",
    "ghmirror_tw.web.content_conversion:ContentStream.feed": "a type",
}


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_corpus(target: str) -> None:
    """Each target holds for its seeds and for all inputs that fuzzers found."""
    for path in inputs(target):
        try:
            TARGETS[target](path.read_bytes())
        except Exception as error:
            error.add_note(f"The input is {path}")
            raise


def test_corpus_is_small() -> None:
    """The corpus has few and small inputs, of existing targets only."""
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    for target in TARGETS:
        paths = inputs(target)
        assert 1 < len(paths) <= 2 * MOST
        assert max(path.stat().st_size for path in paths) <= 2 * LONGEST_BYTES


def parsers() -> Iterator[tuple[str, str]]:
    """Return module and name of each function with input from outside."""
    for name, value in functions().items():
        if name not in EXEMPT:
            plain = inspect.unwrap(value)
            yield plain.__module__, plain.__qualname__
    for module in modules(ghmirror_tw):
        for value in list(vars(module).values()):
            if getattr(value, "__module__", None) != module.__name__:
                continue
            members: list[Any] = list(vars(value).values()) if inspect.isclass(value) else [value]
            for member in members:
                plain = inspect.unwrap(getattr(member, "__func__", member))
                if inspect.isfunction(plain) and _PARSERS.fullmatch(plain.__name__):
                    yield module.__name__, plain.__qualname__


def test_every_parser_is_fuzzed() -> None:
    """The corpus calls each parser; a new one needs a target, or seeds for one."""
    command = [sys.executable, "-m", "tests.fuzz.reached"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    called = set(printed.split())
    found = {f"{module}:{name}" for module, name in parsers()}
    assert found - called == set(OTHERS)
