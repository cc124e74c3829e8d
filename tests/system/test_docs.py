"""The examples of the documentation work unchanged."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from textwrap import dedent
from urllib.parse import unquote, urlsplit

import click
import pytest
from attrs import define, field, frozen
from twisted.internet.task import Clock

from ghmirror_tw.cli.main import cli
from ghmirror_tw.config.option import ConfigError
from ghmirror_tw.config.settings import OPTIONS, SECTIONS
from ghmirror_tw.config.settings_loader import load
from ghmirror_tw.telemetry.metric_catalogue import catalogue
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.upstream.byte_budget import ByteBudgets
from tests.harness.certificates import Authority
from tests.harness.running import ROOT

PAGES = (ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst")))
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]

_BLOCK = re.compile(r"^\.\. code-block:: ini\n\n((?:(?: {4}.*)?\n)+)", re.MULTILINE)
_OPENS_INI = re.compile(r"^ +\[[a-z]+\]$", re.MULTILINE)
#: A message with fewer constant letters cannot be identified.
_LEAST_LETTERS = 7
_DEPENDING = 5
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
    """Yield all configurations in the pages."""
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
            (folder / name).write_text("what only we know, in 32 characters and more\n")
    return _FILE.sub(rf"{folder}/\1", text)


def faults_of(path: Path) -> list[str]:
    """Return what is wrong with a configuration, or else what is warned about."""
    try:
        return list(load(path, {}).warnings)
    except ConfigError as error:
        return error.faults


@pytest.mark.parametrize("snippet", [pytest.param(each, id=each.name) for each in snippets()])
def test_each_documented_configuration_is_valid(snippet: Snippet, tmp_path: Path) -> None:
    """Each configuration in the docs is accepted without warnings."""
    path = tmp_path / "ghmirror.ini"
    path.write_text(with_files(snippet.text, tmp_path))
    assert not faults_of(path)


def test_each_documented_configuration_is_found() -> None:
    """Each block that looks like a configuration is marked and tested as one."""
    shown = "".join(each.text for each in snippets())
    assert "reader_url" in shown
    for page in PAGES:
        rest = _BLOCK.sub("", page.read_text())
        assert not _OPENS_INI.findall(rest), page


def text_of(name: str) -> str:
    """Return a page unchanged, but without the content of files in it."""
    return _BLOCK.sub("", (ROOT / name).read_text())


@pytest.mark.parametrize("name", NAMES)
def test_each_documented_option_exists(name: str) -> None:
    """Each option that a page names by section or environment variable exists."""
    known = {(option.section, option.name) for option in OPTIONS}
    named = {
        (section, option)
        for section, options in re.findall(r"``\[([a-z]+)\]((?:\s[a-z0-9_]+)+)", text_of(name))
        for option in options.split()
    }
    assert named <= known
    variables = set(re.findall(r"\bGHMIRROR_[A-Z0-9_]+[A-Z0-9]\b", text_of(name)))
    made_by_kubernetes = {"GHMIRROR_PORT"}
    assert variables - made_by_kubernetes <= {option.variable for option in OPTIONS}


@pytest.mark.parametrize("name", NAMES)
def test_each_documented_metric_exists(name: str) -> None:
    """Each metric that a page names exists, apart from a histogram's suffixes."""
    known = {metric.name for metric in catalogue()}
    known |= {
        f"{metric.name}_{part}"
        for metric in catalogue()
        if metric.kind == "histogram"
        for part in ("bucket", "count", "sum")
    }
    assert set(re.findall(r"\bghmirror_(?!tw\b)[a-z0-9_]+[a-z0-9]\b", text_of(name))) <= known


def exposed() -> str:
    """Return an exposition in which each metric has a series."""
    shown = Metrics(lambda: 0.0)
    shown.watch_store("memory", lambda: (0, 0, 0, 0))
    shown.watch_limits(lambda: [("octocat", "core", "primary")])
    shown.watch_budgets(ByteBudgets.of(Clock(), 1))
    shown.request(b"GET", 200, "shared", 0.02)
    shown.upstream(b"GET", 304, 0.1)
    shown.store("redis", "look_up", "hit", 0.0004)
    shown.spent("octocat")
    shown.quota("octocat", "core", 4999, 5000, 1_700_000_000)
    shown.unstorable("no-store")
    shown.snapshot("save", at=5.0, seconds=1.5, size_bytes=10, records=2)
    shown.reactor_lag(0.001)
    return shown.exposition(None)[1].decode()


def test_documented_labels_equal_the_exposed_labels() -> None:
    """The reference names the labels of each series, and the page explains each of them."""
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(ghmirror_\w+?)(?:\{(.*)\})? ", exposed(), re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    for each in catalogue():
        histogram = each.kind == "histogram"
        shown = found.pop(f"{each.name}_count" if histogram else each.name)
        assert shown == set(each.labels), each.name
        for part in ("bucket", "sum") if histogram else ():
            assert found.pop(f"{each.name}_{part}") - {"le"} == shown
    assert not found
    about = text_of("docs/metrics.rst").partition("Labels\n------")[2]
    explained = set(re.findall(r"``(\w+)``", " ".join(re.findall(r"^``.+$", about, re.MULTILINE))))
    assert {label for each in catalogue() for label in each.labels} <= explained


def test_metrics_catalogue_equals_the_exposed_metrics() -> None:
    """The catalogue of the reference names exactly the metrics that are exposed."""
    content = exposed()
    kinds = dict(re.findall(r"^# TYPE (ghmirror_\w+) (\w+)$", content, re.MULTILINE))
    texts = dict(re.findall(r"^# HELP (ghmirror_\w+) (.+)$", content, re.MULTILINE))
    assert {each.name: each.kind for each in catalogue()} == kinds
    assert {each.name: each.help for each in catalogue()} == texts


@pytest.mark.parametrize("name", NAMES)
def test_each_documented_command_exists(name: str) -> None:
    """Each subcommand of ``ghmirror`` and each target of make that a page names exists."""
    for words in re.findall(
        r"(?:``|^ +(?:\$ )?)ghmirror ([a-z][a-z -]*)", text_of(name), re.MULTILINE
    ):
        command: click.Command = cli
        for word in words.split(" "):
            if not isinstance(command, click.Group) or not re.fullmatch("[a-z-]*[a-z]", word):
                break
            found = command.get_command(click.Context(command), word)
            assert found is not None, words
            command = found
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:``|^ +)make ([a-z-]+)", text_of(name), re.MULTILINE)) <= targets


@pytest.mark.parametrize("name", NAMES)
def test_each_documented_file_exists(name: str) -> None:
    """Each file, and each program run with Python, that a page names exists."""
    named = set(
        re.findall(r"``((?:conf|docs|tests|benchmarks|ghmirror_tw)/[\w./@-]*)", text_of(name))
    )
    named |= {
        module.replace(".", "/") + ".py"
        for module in re.findall(r"-m ((?:benchmarks|tests)[\w.]+\w)", text_of(name))
    }
    missing = {path for path in named if not (ROOT / path).exists()}
    # a package that is run has a `__main__`
    packages = {path for path in missing if (ROOT / path[:-3] / "__main__.py").exists()}
    assert missing == packages


@define
class Page(HTMLParser):
    """A page as it was built: where it leads, its anchors, and the files that it loads."""

    path: Path
    links: list[str] = field(factory=list)
    ids: set[str] = field(factory=set)
    loads: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        fields = dict(attrs)
        if fields.get("id"):
            self.ids.add(fields["id"] or "")
        if tag == "a" and fields.get("href"):
            self.links.append(fields["href"] or "")
        if tag in {"img", "script", "iframe", "object"}:
            self.loads.append(fields.get("src") or fields.get("data") or "")
        if tag == "link" and fields.get("rel") in {"stylesheet", "icon", "preload"}:
            self.loads.append(fields.get("href") or "")


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """The documentation as it is built, by path; any warning ends it."""
    built = tmp_path_factory.mktemp("book")
    ended = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "docs", str(built)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return {path: Page(path) for path in sorted(built.glob("*.html"))}


def test_each_internal_link_has_a_target(book: dict[Path, Page]) -> None:
    """Each internal link has an existing page and an existing anchor."""
    wrong = []
    for page in book.values():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.path.parent / unquote(parts.path)) if parts.path else page.path
            known = book.get(target)
            there = target.exists() if known is None else parts.fragment in {"", *known.ids}
            if not there:
                wrong.append(f"{page.path.name}: {link}")
    assert not wrong


def test_each_page_is_built_and_self_contained(book: dict[Path, Page]) -> None:
    """Each page in docs/ is built, and loads nothing from other hosts."""
    built = {path.stem for path in book}
    assert {path.stem for path in (ROOT / "docs").glob("*.rst")} <= built
    outside = [load for page in book.values() for load in page.loads if urlsplit(load).netloc]
    assert not outside


def test_reference_has_an_anchor_for_each_option(book: dict[Path, Page]) -> None:
    """Each option has an anchor that other pages can refer to."""
    (page,) = [page for path, page in book.items() if path.name == "configuration.html"]
    wanted = {f"{each.section}-{each.name}".replace("_", "-") for each in OPTIONS}
    assert wanted <= page.ids
    text = (ROOT / "docs" / "configuration.rst").read_text()
    assert re.findall(r"^\.\. settings:: (\w+)$", text, re.MULTILINE) == [*SECTIONS]


def messages() -> list[re.Pattern[str]]:
    """Return patterns of the messages in the code, with any text for their variable parts."""
    found = set()
    for path in (ROOT / "ghmirror_tw").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts = re.split(r"\{\w+(?:!r)?\}", node.value)
            elif isinstance(node, ast.JoinedStr):
                made = [
                    each.value if isinstance(each, ast.Constant) else "\0" for each in node.values
                ]
                parts = "".join(map(str, made)).split("\0")
            else:
                continue
            if len("".join(parts)) >= _LEAST_LETTERS and "\n" not in "".join(parts):
                found.add(".*".join(map(re.escape, parts)))
    return [re.compile(each) for each in found if each.count(".*") <= _DEPENDING]


def test_each_documented_message_is_in_the_source() -> None:
    """Each message that the troubleshooting page quotes is in the source."""
    page = (ROOT / "docs" / "troubleshooting.rst").read_text()
    boxes = re.findall(
        r"^( *)\.\. code-block:: text\n\n((?:\1 {3}.+\n)+)", page, flags=re.MULTILINE
    )
    quoted = [line.strip() for _, box in boxes for line in box.splitlines()]
    assert len(quoted) > len(boxes) > 0
    output = messages()
    assert not [line for line in quoted if not any(each.fullmatch(line) for each in output)]
