"""What the documentation shows can be used as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from attrs import frozen

from ghmirror_tw.config import ConfigError, load
from tests.certificates import Authority
from tests.running import ROOT

PAGES = (ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst")))

_BLOCK = re.compile(r"^\.\. code-block:: ini\n\n((?:(?: {4}.*)?\n)+)", re.MULTILINE)
_OPENS_INI = re.compile(r"^ +\[[a-z]+\]$", re.MULTILINE)
_FILE = re.compile(r"/etc/ghmirror/([a-z.-]+)")


@frozen
class Snippet:
    """A configuration that a page shows."""

    page: Path
    line: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def snippets() -> Iterator[Snippet]:
    """Give all configurations that pages show."""
    for page in PAGES:
        text = page.read_text()
        for found in _BLOCK.finditer(text):
            yield Snippet(page, text.count("\n", 0, found.start()) + 1, dedent(found[1]))


def with_files(text: str, folder: Path) -> str:
    """Return a configuration whose files are in *folder*, and there: certificates, or secrets."""
    names = set(_FILE.findall(text))
    if "key.pem" in names:
        Authority.new().issue(folder)
        names -= {"key.pem", "certificate.pem"}
    for name in names:
        if name == "proxy":
            (folder / name).write_text("http://user:password@proxy.example.org:3128\n")
        elif name.endswith(".pem"):
            (folder / name).write_text(Authority.new().pem)
        else:
            (folder / name).write_text("what only we know\n")
    return _FILE.sub(rf"{folder}/\1", text)


def faults_of(path: Path) -> list[str]:
    """Return what is wrong with a configuration, or else what is warned about."""
    try:
        return list(load(path, {}).warnings)
    except ConfigError as error:
        return error.faults


@pytest.mark.parametrize("snippet", [pytest.param(each, id=each.name) for each in snippets()])
def test_each_configuration_can_be_used(snippet: Snippet, tmp_path: Path) -> None:
    """It is taken as it stands, with the files that it names, and nothing is warned about."""
    path = tmp_path / "ghmirror.ini"
    path.write_text(with_files(snippet.text, tmp_path))
    assert not faults_of(path)


def test_each_configuration_is_tried() -> None:
    """There are some, and whatever looks like one is marked as one."""
    shown = "".join(each.text for each in snippets())
    assert "reader_url" in shown
    for page in PAGES:
        rest = _BLOCK.sub("", page.read_text())
        assert not _OPENS_INI.findall(rest), page
