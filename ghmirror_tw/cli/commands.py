"""What the commands do; loaded when one is called, since it takes a while."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ghmirror_tw.cli import text_format
from ghmirror_tw.cli.context import Desk, explained, open_desk
from ghmirror_tw.cli.exit_status import CommandError, Status
from ghmirror_tw.cli.output import Output
from ghmirror_tw.cli.run_in_reactor import run
from ghmirror_tw.config.option import ConfigError
from ghmirror_tw.config.settings_loader import read_settings
from ghmirror_tw.telemetry.logs import scrub
from ghmirror_tw.wiring.tls_trust import build_trust

Act = Callable[[Desk], Coroutine[Deferred[Any], Any, Status]]


@contextmanager
def explaining(out: Output) -> Iterator[None]:
    """Turn whatever goes wrong into a `CommandError`."""
    try:
        yield
    except Exception as error:
        told = explained(error)
        if told.code == "internal" and out.verbose:
            out.note(scrub(Failure(error).getTraceback()))
        raise told from error


def check_config(path: str | None, out: Output) -> Status:
    """Say all that is wrong with a configuration, or not as it may have been meant."""
    with explaining(out):
        faults, warnings = _looked_at(path)
    for word, said in (("fault", faults), ("warning", warnings)):
        for each in said:
            out.verdict(word, f": {each}")
    if faults:
        out.line(f"It can't be used: {text_format.count(len(faults), 'fault')}.")
    else:
        out.line("It can be used.")
    out.document({"valid": not faults, "faults": faults, "warnings": warnings})
    return Status.FAULT if faults else Status.OK


def _looked_at(path: str | None) -> tuple[list[str], list[str]]:
    """Return the faults and the warnings of a configuration."""
    faults: list[str] = []
    try:
        settings = read_settings(path)
    except ConfigError as error:
        return error.faults, []
    # what is only read when a mirror starts
    for section, name, at in (
        ("github", "ca_path", settings.github.ca_path),
        ("redis", "tls_ca_path", settings.redis.tls_ca_path),
    ):
        try:
            build_trust(section, name, at)
        except ConfigError as error:
            faults += error.faults
    return faults, list(settings.warnings)


def with_desk(path: str | None, out: Output, act: Act) -> Status:
    """Do something with snapshots. Raises `CommandError`."""
    with explaining(out):
        settings = read_settings(path)
        if not settings.snapshot.target:
            text = "[snapshot] target: it is empty; expected where snapshots are kept"
            raise CommandError("no-target", text, Status.USAGE)

        async def work(reactor: Any) -> Status:
            async with open_desk(reactor, settings, out) as desk:
                return await act(desk)

        return run(work, out)
