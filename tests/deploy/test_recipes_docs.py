"""The page of recipes for clients is complete, and what it shows can be read."""

from __future__ import annotations

import re
from textwrap import dedent

import yaml

from tests.harness.running import ROOT

PAGE = (ROOT / "docs" / "recipes.rst").read_text()


def blocks(language: str) -> list[str]:
    """Return the code of a language that the page shows."""
    found = re.findall(
        rf"^\.\. code-block:: {language}\n\n((?:(?: {{4}}.*)?\n)+)", PAGE, re.MULTILINE
    )
    return [dedent(text) for text in found]


def rows(table: int) -> set[str]:
    """Return the clients of a table, the first or the second one of the page."""
    parts = re.split(r"^=====+ .*$", PAGE, flags=re.MULTILINE)
    body = parts[3 * table + 2]
    return {line.split("  ")[0] for line in body.splitlines() if line[:1].strip()}


def test_each_yaml_is_valid() -> None:
    """Each configuration in YAML can be parsed, and has the mirror's URL."""
    shown = blocks("yaml")
    assert len(shown) > 5
    for text in shown:
        assert "ghmirror.example.org" in str(yaml.safe_load(text)), text


def test_tables_have_the_same_clients() -> None:
    """Each client with a setting has a row of what it reads, but ghapi."""
    assert len(rows(0)) == 19
    assert rows(0) - rows(1) == {"ghapi"}
    assert rows(1) <= rows(0)


def test_each_client_has_a_section() -> None:
    """Each client is in the title of a section, or in the section of those without a setting."""
    titles = " ".join(re.findall(r"^(.+)\n-+$", PAGE, re.MULTILINE))
    names = {name for row in rows(0) for name in row.split(", ")}
    assert {name for name in names if name not in titles} == {"aqua"}
