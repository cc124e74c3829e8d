"""Writes docs/performance.rst, with plots, from the results of `benchmarks.speed`.

python -m benchmarks.performance speed.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from attrs import define, field
from matplotlib.figure import Figure

from benchmarks.results import NEEDED, OTHER_PYTHON
from benchmarks.revalidation import (
    MEMORY,
    OTHER_MEMORY,
    OTHER_REDIS,
    REDIS,
    VARNISH,
)
from tests.harness.running import ROOT

Found = dict[str, Any]

_INTRODUCTION: Final = """\
Performance
===========

The cost of a validated GET, measured by a program that is easy to run::

    make bench PYPY=pypy3 BENCH='--json speed.json'
    .venv/bin/python -m benchmarks.performance speed.json

The second line writes this page. Times are those of one machine, and differ on another. Ratios were
taken in one run, round by round in turn. CPU time is that of all processes of a subject, Redis's
included, as Linux counts it. GitHub's stand-in is an nginx that knows the entity-tags and sends a
304 for them.
"""

_ON_PYPY: Final = """\
Mirrors run on PyPy, and on CPython where the name says so, with the same code. The thresholds are
for PyPy. Before a measurement there is load for 20 seconds, in which PyPy compiles. Without
``PYPY=pypy3`` all is measured on CPython, and the thresholds are for CPython.
"""

_TEXTS: Final = {
    "trace": """\
The fleet trace
---------------

Traffic like that of a fleet of bots. 48 clients, each with a connection, a credential and a
``User-Agent`` of its own, belong to 12 users. They request 4,000 paths by Zipf's law (exponent 1),
a fifth of which are pages of lists with ``Link``. A third of the clients send ``If-None-Match`` for
what they have. Content is 23 kB of JSON.

The mirror and Varnish validate each GET with GitHub. nginx stores nothing and forwards each.
*Python packages* is a validating proxy made of an ASGI server, an HTTP client and a cache library.
*upstream* is the number of requests to GitHub for a response, *paid* the number of those without a
304. The mirror proves ``Link`` by requests of its own, which are part of *upstream*.
""",
    "revalidated": """\
Revalidated GETs
----------------

500 URLs with 23 kB of JSON each, requested by wrk with one credential and ``Accept-Encoding:
gzip``. The mirror and Varnish validate each one with GitHub, which sends a 304. nginx stores
nothing and forwards each 200. The mirror rewrites URLs in the content; the others do not change it.
A round lasts some seconds, or 50 ms for each connection if that is longer, so that the first
response of each connection is not among the slowest hundredth. *Twisted alone* is no mirror: it is
the cost of sockets and Twisted's reactor, with two dictionaries and without rules.
""",
    "latency": """\
Latency that is added
---------------------

To a response of GitHub that takes 100 ms, at a steady rate. Requests are sent when they are due,
whether or not earlier ones have ended, and their latency counts from then. The percentiles of
requests that go to GitHub directly, at the same rate, are subtracted.
""",
    "sizes": """\
Size of content
---------------

The same GETs by size of content, before compression.
""",
    "stored": """\
Stored records
--------------

The same GETs with further representations in the memory store, each with one grant. Memory is the
growth of the process for each, without the compressed content. PyPy allocates more than 100 MB at a
time, so that this figure is valid only on CPython.
""",
    "credentials": """\
Credentials
-----------

The same GETs of 10 resources, by the number of credentials, each with grants for all of them.
""",
    "misses": """\
Misses
------

Requests without a stored response: each has a 200, which is stored.
""",
    "passing": """\
Passthrough
-----------

Content of 1 MB that is neither stored nor rewritten.
""",
    "layers": """\
CPU time by layer
-----------------

By samples of the mirror's stacks on CPython during revalidated GETs, over TLS to GitHub. Code
outside all layers, such as the standard library, counts for its caller.
""",
}
_COLORS: Final = {
    MEMORY: "#1b6ca8",
    REDIS: "#d1495b",
    VARNISH: "#66a182",
    OTHER_MEMORY: "#8fb8d6",
    OTHER_REDIS: "#eba3ad",
    "nginx": "#edae49",
}
_OTHERS: Final = "#8d96a3"


@define(eq=False)
class Page:
    """The lines of the page, and the directory for it and its plots."""

    docs: Path
    lines: list[str] = field(factory=list)

    def text(self, text: str) -> None:
        """Add one or more paragraphs."""
        self.lines += [text.rstrip("\n"), ""]

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Add a table; all columns but the first hold numbers."""
        cells = [head, *rows]
        widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
        rule = "  ".join("=" * width for width in widths)
        first, *others = (
            "  ".join(
                cell.rjust(width) if at else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        )
        self.lines += [rule, first, rule, *others, rule, ""]

    def plot(self, name: str, description: str, draw: Callable[[Any], None]) -> None:
        """Draw a plot, and add it with its *description* as alternative text."""
        figure = Figure(figsize=(8.5, 3.6), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small", frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, alpha=0.3)
        folder = self.docs / "performance"
        folder.mkdir(exist_ok=True)
        # equal figures result in equal files
        with mpl.rc_context({"svg.hashsalt": name}):
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        self.lines += [f".. image:: performance/{name}.svg", f"   :alt: {description}", ""]

    def write(self) -> None:
        """Write the page."""
        (self.docs / "performance.rst").write_text("\n".join(self.lines).rstrip("\n") + "\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.2f}"


def _by_subject(rows: Sequence[Found]) -> dict[str, list[Found]]:
    found: dict[str, list[Found]] = {}
    for row in rows:
        found.setdefault(row["subject"], []).append(row)
    return found


def _color(subject: str) -> str:
    return _COLORS.get(subject, _OTHERS)


def _lines(axes: Any, rows: Sequence[Found], x: str, y: str, *, log_y: bool = True) -> None:
    """Draw a line for each subject."""
    for subject, each in _by_subject(rows).items():
        values = [row[x] for row in each], [row[y] for row in each]
        axes.plot(*values, "o-", color=_color(subject), label=subject)
    axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.2 * max(row[y] for row in rows))


def _rows(page: Page, rows: Sequence[Found], by: str | None = None) -> None:
    """Add a table of measurements, with the column *by* after the first one."""
    head = (
        "subject",
        *([by] if by else []),
        "connections",
        "CPU µs",
        "requests/s",
        "p50 ms",
        "p99 ms",
    )
    names = ("cpu_us", "rate", "p50_ms", "p99_ms", "memory_mb")
    page.table(
        (*head, "memory MB"),
        [
            (
                row["subject"],
                *([f"{row[by]:,}"] if by else []),
                str(row["connections"]),
                *(_number(row[name]) for name in names),
            )
            for row in rows
        ],
    )


def _trace(page: Page, rows: list[Found]) -> None:
    columns = {
        "CPU µs": "cpu_us",
        "requests/s": "rate",
        "p50 ms": "p50_ms",
        "p99 ms": "p99_ms",
        "memory MB": "memory_mb",
        "upstream": "upstream",
        "paid": "paid",
    }
    page.table(
        ("subject", *columns),
        [(row["subject"], *(_number(row[name]) for name in columns.values())) for row in rows],
    )

    def draw(axes: Any) -> None:
        subjects = [row["subject"] for row in rows]
        bars = axes.barh(
            subjects, [row["cpu_us"] for row in rows], color=[_color(each) for each in subjects]
        )
        axes.bar_label(bars, [_number(row["cpu_us"]) for row in rows], padding=3)
        axes.set_xscale("log")
        axes.invert_yaxis()
        axes.set_xlabel("CPU µs a request")

    page.plot("trace", "CPU time a request of the fleet trace, by subject", draw)


def _revalidated(page: Page, rows: list[Found]) -> None:
    _rows(page, rows)

    def cpu(axes: Any) -> None:
        subjects = _by_subject(rows)
        connections = list(dict.fromkeys(row["connections"] for row in rows))
        width = 0.8 / len(subjects)
        for at, (subject, each) in enumerate(subjects.items()):
            places = [number + at * width for number in range(len(connections))]
            values = [row["cpu_us"] for row in each]
            axes.bar(places, values, width, label=subject, color=_color(subject))
        middle = (len(subjects) - 1) * width / 2
        axes.set_xticks([at + middle for at in range(len(connections))], connections)
        axes.set_xlabel("connections")
        axes.set_ylabel("CPU µs a request")

    def late(axes: Any) -> None:
        mirrors = [row for row in rows if row["subject"] in {MEMORY, REDIS, VARNISH}]
        for subject, each in _by_subject(mirrors).items():
            connections = [row["connections"] for row in each]
            for name, style in (("p50", "o-"), ("p99", "o--")):
                values = [row[f"{name}_ms"] for row in each]
                axes.plot(
                    connections, values, style, color=_color(subject), label=f"{subject}, {name}"
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(connections, connections)
        axes.minorticks_off()
        axes.set_xlabel("connections, each without a pause between requests")
        axes.set_ylabel("ms")

    page.plot("cpu", "CPU time a request, by connections", cpu)
    page.plot("percentiles", "Percentiles, by connections", late)


def _latency(page: Page, rows: list[Found]) -> None:
    mirrors = [row for row in rows if row["subject"] in {MEMORY, REDIS}]
    page.table(
        ("added, ms", "requests/s", "median", "p90", "p99"),
        [
            (row["subject"], str(row["rate"]), *(_number(each) for each in row["added_ms"]))
            for row in mirrors
        ],
    )

    def draw(axes: Any) -> None:
        for subject, each in _by_subject(mirrors).items():
            for at, name, style in ((0, "median", "o-"), (-1, "p99", "o--")):
                values = [row["added_ms"][at] for row in each]
                rates = [row["rate"] for row in each]
                axes.plot(rates, values, style, color=_color(subject), label=f"{subject}, {name}")
        axes.set_xlabel("requests/s")
        axes.set_ylabel("added, ms")
        axes.set_ylim(bottom=0)

    page.plot("latency", "Latency that is added, by rate", draw)


def _sizes(page: Page, rows: list[Found]) -> None:
    _rows(page, rows, "size")

    def draw(axes: Any) -> None:
        _lines(axes, rows, "size", "cpu_us")
        axes.set_xlabel("bytes of content")
        axes.set_ylabel("CPU µs a request")

    page.plot("sizes", "CPU time a request, by size of content", draw)


def _stored(page: Page, rows: list[Found]) -> None:
    page.table(
        ("stored", "CPU µs", "bytes above content", "compressed content", "content"),
        [
            (
                f"{row['count']:,}",
                *(
                    _number(row[name])
                    for name in ("cpu_us", "above_bytes", "packed_bytes", "plain_bytes")
                ),
            )
            for row in rows
        ],
    )
    draw = _by_count(rows, "representations stored")
    page.plot("stored", "CPU time a request, by stored representations", draw)


def _by_count(rows: list[Found], counted: str) -> Callable[[Any], None]:
    """Return a function that draws the CPU time by the number of the objects *counted*."""

    def draw(axes: Any) -> None:
        same = [{**row, "subject": MEMORY} for row in rows]
        _lines(axes, same, "count", "cpu_us", log_y=False)
        axes.set_xlabel(counted)
        axes.set_ylabel("CPU µs a request")

    return draw


def _credentials(page: Page, rows: list[Found]) -> None:
    _rows(page, rows)
    draw = _by_count(rows, "credentials for each resource")
    page.plot("credentials", "CPU time a request, by credentials", draw)


def _layers(page: Page, found: Found) -> None:
    names = list(dict.fromkeys(layer for shares in found.values() for layer in shares))
    page.table(
        ("share of samples", *found),
        [(name, *(f"{shares.get(name, 0):.1%}" for shares in found.values())) for name in names],
    )

    def draw(axes: Any) -> None:
        height = 0.8 / len(found)
        for at, (subject, shares) in enumerate(found.items()):
            places = [number + at * height for number in range(len(names))]
            values = [100 * shares.get(name, 0) for name in names]
            axes.barh(places, values, height, label=subject, color=_color(subject))
        axes.set_yticks([at + height / 2 for at in range(len(names))], names)
        axes.invert_yaxis()
        axes.set_xlabel("% of samples")

    page.plot("layers", "Shares of time, by layer", draw)


_PARTS: Final[dict[str, Callable[[Page, Any], None]]] = {
    "trace": _trace,
    "revalidated": _revalidated,
    "latency": _latency,
    "sizes": _sizes,
    "stored": _stored,
    "credentials": _credentials,
    "misses": _rows,
    "passing": _rows,
    "layers": _layers,
}


def write(found: Found, docs: Path) -> None:
    """Write the page and its plots into a directory."""
    page = Page(docs)
    page.text(_INTRODUCTION)
    if OTHER_PYTHON in found["programs"]:
        page.text(_ON_PYPY)
    of = f", of commit {found['commit']}" if found["commit"] else ""
    page.text("Measured with ``{command}``\nat {when}{of}, with:".format(**found, of=of))
    for name, value in {**found["machine"], **found["programs"]}.items():
        page.lines.append(f"- {name}: {value}")
    page.lines.append("")
    if not found["options"]["urls"]:
        page.text("The content has no URLs to rewrite.")
    judged = [each for each in found["figures"] if each["most"] is not None]
    if judged:
        page.text("Thresholds\n----------\n\nThe most that is permitted, and the comparison.")
        page.table(
            ("threshold", "measured", "at most", ""),
            [
                (
                    each["name"].strip(),
                    f"{_number(each['value'])} {each['unit']}".strip(),
                    f"{each['most']:,g}",
                    "holds" if each["holds"] else "MISSED",
                )
                for each in judged
            ],
        )
    for name, show in _PARTS.items():
        if name in found["tables"]:
            page.text(_TEXTS[name])
            show(page, found["tables"][name])
    page.write()


def read(path: Path) -> Found:
    """Return the results in a file. Raises `ValueError` with the fault of the file."""
    try:
        found: Any = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"it cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    missing = [name for name in NEEDED if not isinstance(found, dict) or name not in found]
    if missing:
        raise ValueError(
            f"it is not a file of python -m benchmarks.speed --json: missing {', '.join(missing)}"
        )
    written: Found = found
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.performance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, help="the file of --json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="directory of the page")
    options = parser.parse_args(arguments)
    if not options.docs.is_dir():
        parser.error(f"argument --docs: there is no directory {options.docs}")
    try:
        found = read(options.results)
    except ValueError as error:
        parser.error(f"{options.results}: {error}")
    write(found, options.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
