"""The table of operations equals the output of its program."""

from __future__ import annotations

from ghmirror_tw.github import pagination_table
from tests.harness.pagination_table import PACKAGE, TABLE, table


def test_the_table_equals_its_source() -> None:
    """The program makes the table that is checked in, of the installed description."""
    assert PACKAGE.exists(), "@octokit/openapi is not installed; run `npm ci` in tests"
    assert table() == TABLE.read_text(), "run `python -m tests.harness.pagination_table`"


def test_each_operation_is_listed_once() -> None:
    """No template is listed twice, and each is a path."""
    sections = (pagination_table.NUMBERED, pagination_table.CURSORS, pagination_table.NONE)
    lines = "".join(sections).splitlines()
    templates = [line.split()[0] for line in lines]
    assert len(set(templates)) == len(templates)
    assert all(template.startswith("/") for template in templates)
