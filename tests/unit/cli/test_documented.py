"""The descriptions in docs/command.rst are correct."""

from __future__ import annotations

import re
from textwrap import dedent

import pytest

from ghmirror_tw.cli import check_config, command_runner, snapshot_context
from ghmirror_tw.cli.command_errors import CommandError, Status
from ghmirror_tw.cli.output import Output
from ghmirror_tw.snapshots.snapshot_errors import SnapshotError, UnusableError
from tests.harness.running import ROOT
from tests.unit.cli.command_process import Operator

PAGE = (ROOT / "docs" / "command.rst").read_text()
SOURCES = "".join(path.read_text() for path in (ROOT / "ghmirror_tw" / "cli").glob("*.py"))


def test_the_example_is_what_is_printed(operator: Operator) -> None:
    """Word by word."""
    found = re.search(r"::\n\n( +\$ ghmirror check-config .*\n(?: +.*\n)+)", PAGE)
    assert found is not None
    command, *lines = dedent(found[1]).splitlines()
    assert command == "$ ghmirror check-config --config ghmirror.ini"
    path = operator.directory / "ghmirror.ini"
    path.write_text("[server]\nlisen = tcp:1\n\n[cache]\nbackend = disk\n")
    ended = operator.bare("check-config", "--config", "ghmirror.ini")
    assert ended.out.splitlines() == lines


def test_all_codes_are_documented() -> None:
    """Those of errors, with their status, and those of snapshots that are not whole."""
    documented = dict(re.findall(r"^``([a-z-]+)``[ …]+([0-9]+) ", PAGE, re.MULTILINE))
    used = set(re.findall(r"CommandError\(\s*\"([a-z-]+)\"", SOURCES))
    used |= {code for _, code, _ in command_runner.ERRORS}
    assert used <= {*documented}
    assert {*documented} <= {*used, "truncated"}
    for _, code, status in command_runner.ERRORS:
        assert documented[code] == str(int(status))
    for word in {*command_runner.SNAPSHOT_CODES.values(), "gone"}:
        assert f"``{word}``" in PAGE


def test_each_fault_of_a_snapshot_has_a_word() -> None:
    """A new one gets one, too."""
    kinds = {*SnapshotError.__subclasses__(), *UnusableError.__subclasses__()}
    assert {*command_runner.SNAPSHOT_CODES} == kinds - {UnusableError}


def test_an_internal_error_is_printed_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an error like any other; where it was is for --verbose, without secrets, too."""

    def fail(_path: object) -> None:
        raise RuntimeError("password=hunter2")

    for module in (check_config, snapshot_context):
        monkeypatch.setattr(module, "read_settings", fail)
    for verbose in (False, True):
        out = Output(as_json=True, verbose=verbose)
        for act in (
            lambda out=out: check_config.check_config(None, out),
            lambda out=out: snapshot_context.run_with_context(
                None, out, lambda _: pytest.fail("called")
            ),
        ):
            with pytest.raises(CommandError) as caught:
                act()
            assert (caught.value.code, caught.value.status) == ("internal", Status.FAULT)
            assert "RuntimeError: password=***" in caught.value.message
            text = capsys.readouterr()
            assert text.out == ""
            assert ("Traceback" in text.err) == verbose
            assert "hunter2" not in text.err + caught.value.message
