"""The help explains valid command lines, at once; invalid ones are refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ghmirror_tw import __version__
from tests.harness.running import environment
from tests.unit.cli.command_process import Operator

COMMANDS = [
    (),
    ("check-config",),
    ("top",),
    ("snapshot",),
    *(("snapshot", each) for each in ("list", "save", "restore", "verify", "show")),
]
GROUPS = {(), ("snapshot",)}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_explains_itself(operator: Operator, command: tuple[str, ...]) -> None:
    """With what its exit status means, in lines that a terminal shows."""
    for option in ("--help", "-h"):
        ended = operator.bare(*command, option)
        assert (ended.status, ended.err) == (0, "")
        assert ended.out.startswith("Usage: ghmirror " + " ".join(command))
        for status in ("0 ", "1 ", "2 ", "3 ", "130 "):
            assert f"\n    {status}" in ended.out
        assert max(map(len, ended.out.splitlines())) <= 80
        assert "..." not in ended.out.replace("[ARGS]...", "").replace("[NAME]...", "")


@pytest.mark.parametrize("command", sorted({*COMMANDS} - GROUPS), ids=" ".join)
def test_all_have_the_same_options(operator: Operator, command: tuple[str, ...]) -> None:
    """Options with one meaning have one name."""
    output = operator.bare(*command, "--help").out
    for option in ("-c, --config FILE", "--json", "-q, --quiet", "-v, --verbose"):
        assert f"\n  {option} " in output


@pytest.mark.parametrize("command", sorted(GROUPS), ids=" ".join)
def test_half_a_command_is_none(operator: Operator, command: tuple[str, ...]) -> None:
    """It lists the subcommands; since nothing was done, the status is not 0."""
    ended = operator.bare(*command)
    assert (ended.status, ended.out) == (2, "")
    assert "Commands:" in ended.err


def test_the_version_is_printed(operator: Operator) -> None:
    """In a line of its own."""
    assert operator.bare("--version").out == f"ghmirror {__version__}\n"


@pytest.mark.parametrize(
    "typed",
    [
        ("frob",),
        ("snapshot", "frob"),
        ("top", "more"),
        ("top", "--interval", "0"),
        ("snapshot", "list", "more"),
        ("snapshot", "list", "--frob"),
        ("snapshot", "show"),
        ("snapshot", "verify", "--newest", "name"),
    ],
    ids=" ".join,
)
def test_invalid_arguments_are_refused(operator: Operator, typed: tuple[str, ...]) -> None:
    """With status 2, and as JSON with the option for it."""
    ended = operator.bare(*typed)
    assert (ended.status, ended.out) == (2, "")
    assert "Usage: ghmirror" in ended.err
    status, code, message = operator.bare(*typed, "--json").error
    assert (status, code) == (2, "usage")
    assert message


def loaded_by(program: str) -> set[str]:
    """Return the modules that a program has loaded when it ends."""
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}\nprint(*sys.modules)"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(shown.stdout.split())


@pytest.mark.parametrize(
    "program",
    [
        "import ghmirror_tw.cli, ghmirror_tw.cli.main",
        """import ghmirror_tw.cli.main
try: ghmirror_tw.cli.main.main(['snapshot', 'save', '--help'])
except SystemExit: pass""",
    ],
    ids=["imported", "with --help"],
)
def test_nothing_heavy_is_loaded_for_words(program: str) -> None:
    """Neither a reactor nor the modules for an operation."""
    loaded = loaded_by(program)
    assert "ghmirror_tw.cli.main" in loaded
    heavy = ("twisted", "boto3", "botocore", "txredisapi", "rich", "ssl", "ghmirror_tw.wiring")
    assert not loaded & {*heavy, "twisted.internet.reactor"}


def test_a_directory_needs_no_boto3() -> None:
    """Loading it lasts a third of a second."""
    loaded = loaded_by("import ghmirror_tw.cli.snapshot_context, ghmirror_tw.cli.save_and_restore")
    assert "ghmirror_tw.wiring.snapshot_parts" in loaded
    assert not loaded & {"boto3", "botocore"}
