"""The lines of the log: one event a line, and no credentials."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from ghmirror_tw.telemetry.logs import as_text, escape, observer
from ghmirror_tw.telemetry.repeated_messages import MOST, PERIOD_S
from ghmirror_tw.telemetry.secret_scrubbing import scrub


class Log:
    """A logger whose events end up in a text."""

    def __init__(self, layout: str, level: str = "info") -> None:
        self.stream = io.StringIO()
        self.observer = observer(self.stream, layout, level)
        self.log = Logger(namespace="test", observer=self.observer)

    @property
    def written(self) -> str:
        return self.stream.getvalue()

    @property
    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self.written)
        return fields


class Unprintable:
    """Something that can't even be represented."""

    def __repr__(self) -> str:
        raise ValueError("no")


def failure(message: str) -> Failure:
    """Return a failure that has been raised."""

    def fail() -> None:
        raise ValueError(message)

    try:
        fail()
    except ValueError:
        return Failure()
    raise AssertionError


def event(**keys: Any) -> dict[str, Any]:
    """Return an event at a known time."""
    return {"log_time": 1_700_000_000.25, "log_namespace": "test", "log_format": "hello"} | keys


def test_observer_provides_the_interface() -> None:
    """Twisted accepts it."""
    verifyObject(ILogObserver, Log("text").observer)


def test_a_line_of_text() -> None:
    """Time in UTC, level, namespace, message."""
    assert as_text(event()) == "2023-11-14T22:13:20.250Z info test hello\n"


def test_empty_event_is_a_line() -> None:
    """Is a line nevertheless."""
    assert as_text({}) == "1970-01-01T00:00:00.000Z info - \n"


def test_a_line_of_json() -> None:
    """The values of the event have their own keys; Twisted's are omitted."""
    log = Log("json")
    values = {"count": 3, "ok": True, "none": None, "share": 0.5, "name": "octo", "raw": b"\xff"}
    log.observer(event(count_all=0, **values, system="-", isError=0))
    assert log.written.count("\n") == 1
    assert log.fields == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "namespace": "test",
        "message": "hello",
        "count_all": 0,
        **values,
        "raw": "\\xff",
    }


def test_all_values_are_written_as_json() -> None:
    """Values that JSON cannot express are described."""
    log = Log("json")
    log.log.warn(  # noqa: G010 - it is no logger of the standard library
        "{a}", a=float("nan"), b=[1, "x"], c=Unprintable(), d=float("inf")
    )
    fields = log.fields
    assert fields["level"] == "warn"
    assert (fields["message"], fields["a"], fields["b"], fields["d"]) == (
        "nan",
        "nan",
        [1, "x"],
        "inf",
    )
    assert "Unprintable" in fields["c"]


def test_event_keys_cannot_replace_fields_of_the_line() -> None:
    """An event's own level, time or message don't replace the true ones."""
    log = Log("json")
    keys = ("level", "namespace", "message", "traceback")
    log.observer(event(**dict.fromkeys(keys, "false")))
    assert "false" not in log.written


@pytest.mark.parametrize(
    ("level", "expected"),
    [("debug", "diwe"), ("info", "iwe"), ("warn", "we"), ("error", "e"), ("critical", "")],
)
def test_only_events_of_the_level_or_above_are_written(level: str, expected: str) -> None:
    """From debug to critical."""
    log = Log("text", level)
    log.log.debug("d")
    log.log.info("i")
    log.log.warn("w")  # noqa: G010 - it is no logger of the standard library
    log.log.error("e")
    assert "".join(line[-1] for line in log.written.splitlines()) == expected


def test_noise_of_twisted_is_dropped() -> None:
    """Factories that start and stop with each connection, clients that became idle."""
    noisy, all_of_it = Log("text"), Log("text", "debug")
    for log in (noisy, all_of_it):
        log.log.info("Starting factory {factory!r}", factory=1)
        log.log.info("Stopping factory {factory!r}", factory=1)
        log.log.info("Timing out client: {peer}", peer="me")
        log.log.info("Site starting on 8080")
    assert [line.split(" ", 3)[3] for line in noisy.written.splitlines()] == [
        "Site starting on 8080"
    ]
    assert len(all_of_it.written.splitlines()) == 4


@pytest.mark.parametrize("namespace", ["log_legacy", "twisted.scripts._twistd_unix.UnixAppLogger"])
def test_lines_of_twistd_are_dropped(namespace: str) -> None:
    """Unless they are errors, or everything is wanted."""
    quiet, all_of_it = Log("text"), Log("text", "debug")
    for log in (quiet, all_of_it):
        logger = Logger(namespace=namespace, observer=log.observer)
        logger.info("reactor class: {reactor}", reactor="epoll")
        logger.error("it matters")
    assert [line.split(" ", 3)[3] for line in quiet.written.splitlines()] == ["it matters"]
    assert len(all_of_it.written.splitlines()) == 2


def test_failures_have_their_traceback_indented() -> None:
    """No line of it can be read as another event."""
    log = Log("text")
    log.log.failure("It failed", failure=failure("one\n2023-11-14T22:13:20.250Z info test fake"))
    first, *rest = log.written.splitlines()
    assert first.endswith(" critical test It failed")
    assert any("ValueError" in line for line in rest)
    assert all(line.startswith("\t") for line in rest)


def test_failures_in_json() -> None:
    """Return the traceback as one string."""
    log = Log("json")
    log.log.failure("It failed", failure=failure("because of ghp_" + "a" * 36))
    assert "ValueError: because of ***" in log.fields["traceback"]
    assert log.fields["message"] == "It failed"


def test_failure_without_traceback_is_logged() -> None:
    """Its type is fields at least; what only calls itself a failure has no traceback."""

    class Broken(Failure):
        def getTraceback(self, *args: Any, **more: Any) -> str:
            raise RuntimeError("no")

    broken = Broken(ValueError("x"))
    line = as_text(event(log_failure=broken))
    assert "ValueError'> (no traceback)" in line
    assert as_text(event(log_failure="none")).count("\n") == 1


@pytest.mark.parametrize("layout", ["text", "json"])
@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\u2028b", "a\x85b", "a\x1b[31mb", "\ud800"])
def test_a_message_is_one_line(layout: str, text: str) -> None:
    """With any text of a client in it."""
    log = Log(layout)
    log.log.info("{text}", text=text)
    assert len(log.written.splitlines()) == 1
    assert log.written.isascii()


def test_ready_made_text_is_written_unchanged() -> None:
    """An event may have its own text; a text of another type is formatted as usual."""
    assert as_text(event(log_format="{log_text}", log_text="a token b")).endswith(" a token ***\n")
    assert as_text(event(log_format="{log_text}", log_text=5)).endswith(" 5\n")


@given(st.text())
def test_escaped_text_is_printable_ascii(text: str) -> None:
    """And text that already was stays as it is."""
    escaped = escape(text)
    assert escaped.isascii()
    assert escaped.isprintable()
    assert escape(escaped) == escaped


SECRET = "0123456789abcdefABCDEF0123456789abcdef"


@pytest.mark.parametrize(
    "text",
    [
        *(f"x gh{kind}_{SECRET} y" for kind in "pousr"),
        "x ghp_short y",
        f"%3Aghs_{SECRET}.{SECRET}-{SECRET} y",
        f"x github_pat_{SECRET}_{SECRET} y",
        f"x v1.{SECRET.lower()[:38]}ab y",
        f"x Bearer {SECRET} y",
        f"x bearer  {SECRET} y",
        f"x token {SECRET} y",
        f"x Basic {SECRET}== y",
        f"Authorization: {SECRET}",
        f"{{b'authorization': [b'token {SECRET}']}}",
        f"(b'authorization', b'{SECRET}')",
        f"x https://me:{SECRET}@host/path y",
        f"x redis://:{SECRET}@host:6379 y",
        f"x ?access_token={SECRET}&y",
        f"x client_secret='{SECRET}' y",
        f'{{"password": "{SECRET}"}}',
        f"X-Amz-Signature={SECRET}",
        f"x eyJ{SECRET}.eyJ{SECRET}.{SECRET}-_ y",
    ],
)
def test_credentials_are_scrubbed(text: str) -> None:
    """In any of their formats."""
    scrubbed = scrub(text)
    assert "***" in scrubbed
    assert not any(part in scrubbed for part in ("0123456789", "abcdef", "short"))


@pytest.mark.parametrize(
    "text",
    [
        "GET /repos/o/laughs_x/contents/README.md 200 shared 1.5 ms octocat",
        "https://api.github.com/repos/o/r responded",
        "v1.2.3 of highs_and_lows at basically 3 tokens",
    ],
)
def test_other_text_is_not_scrubbed(text: str) -> None:
    """A log without readable text is useless."""
    assert scrub(text) == text


@pytest.mark.parametrize("layout", ["text", "json"])
def test_credentials_are_scrubbed_in_all_parts_of_an_event(layout: str) -> None:
    """In the message, in a key's value, in an exception."""
    log = Log(layout)
    token = f"ghp_{SECRET}"
    log.log.failure(
        "sent with {header}",
        failure=failure(f"refused {token}"),
        header=f"Bearer {token}",
        headers={"authorization": [token]},
        auth_token=SECRET,
    )
    assert SECRET not in log.written


class Flood:
    """A logger whose repeated warnings are limited, on a clock."""

    def __init__(self, layout: str = "text", level: str = "info") -> None:
        self.clock, self.stream = Clock(), io.StringIO()
        made = observer(self.stream, layout, level, self.clock.callLater)
        self.log = Logger(namespace="test", observer=made)

    def warn(self, count: int, text: str = "Lost: n={n}") -> None:
        for number in range(count):
            self.log.warn(text, n=number)  # noqa: G010 - it is no logger of the standard library

    @property
    def lines(self) -> list[str]:
        """The written lines, without the times."""
        return [line.partition(" ")[2] for line in self.stream.getvalue().splitlines()]


def test_repeated_warnings_are_summed_up() -> None:
    """The first are written, and after a minute how many more there were, with the latest."""
    flood = Flood()
    flood.warn(MOST + 896)
    assert flood.lines == [f"warn test Lost: n={number}" for number in range(MOST)]
    flood.clock.advance(PERIOD_S)
    assert flood.lines[MOST:] == [f"warn test Lost: n={MOST + 895} (896 more in the last minute)"]
    flood.warn(1)
    flood.clock.advance(PERIOD_S)
    assert flood.lines[MOST + 1 :] == ["warn test Lost: n=0"]


def test_kinds_of_warnings_are_counted_apart() -> None:
    """Each by its text without values; other levels are not counted."""
    flood = Flood()
    for _ in range(MOST + 1):
        flood.warn(1)
        flood.warn(1, "Other: n={n}")
        flood.log.info("Usual")
    flood.clock.advance(PERIOD_S)
    assert sum("Usual" in line for line in flood.lines) == MOST + 1
    for text in ("Lost: n=0", "Other: n=0"):
        assert sum(line == f"warn test {text}" for line in flood.lines) == MOST
        assert f"warn test {text} (1 more in the last minute)" in flood.lines


def test_errors_and_texts_without_a_format_are_counted_by_text() -> None:
    """All faults of a configuration are written, however many there are."""
    flood = Flood()
    flood.warn(2 * MOST, "{n}")
    for number in range(2 * MOST):
        flood.log.error("Not reloaded: {fault}", fault=number)
    assert len(flood.lines) == 4 * MOST
    for _ in range(2 * MOST):
        flood.log.error("Not reloaded: {fault}", fault="same")
    assert len(flood.lines) == 5 * MOST


def test_repeated_failures_are_counted_in_json() -> None:
    """As a number."""
    flood = Flood("json")
    for _ in range(MOST + 2):
        flood.log.failure("Failed", failure=failure("why"))
    flood.clock.advance(PERIOD_S)
    shown = [json.loads(line) for line in flood.stream.getvalue().splitlines()]
    assert [each.get("repeated") for each in shown] == [None] * MOST + [2]
    assert shown[-1]["message"] == "Failed (2 more in the last minute)"


def test_all_warnings_are_written_for_debugging() -> None:
    """At level debug nothing is left out."""
    flood = Flood(level="debug")
    flood.warn(3 * MOST)
    assert len(flood.lines) == 3 * MOST
