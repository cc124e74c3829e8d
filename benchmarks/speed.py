"""How fast the mirror is, beside Varnish that validates each GET and nginx that passes them on.

    make bench BENCH='--json speed.json'
    python -m benchmarks.speed --only revalidated --rounds 3 --seconds 2

Parts, all of them by default:

trace        traffic like that of a fleet of bots: 48 clients, 4,000 paths, pages of lists
revalidated  500 URLs of 23 kB, one credential, gzip, with 1 to 256 connections (wrk): CPU time,
             requests/s, percentiles and memory of the mirror with either store, and of the others
latency      what is added to an answer that takes 100 ms, at a steady rate
sizes        the same GETs by size of content
stored       by how much is stored beside, and the memory that takes
credentials  by how many credentials have been granted the same
misses       what was never asked before
passing      MB/s of what isn't stored, beside nginx
layers       where the time goes, by py-spy

GitHub's stand-in is an nginx that knows the tags, and CPU time is that of all processes of what is
measured, from /proc. The program stops where what is measured is not what is meant: any answer
that failed, that the mirror did not validate, or for which Varnish did not ask GitHub
conditionally and get a 304. The exit status is 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks import revalidating
from benchmarks.adding import adding
from benchmarks.driving import end_in_order
from benchmarks.growing import credentials, misses, sizes, stored
from benchmarks.layers import layers
from benchmarks.passing import passing
from benchmarks.python import OWN
from benchmarks.results import Results, machine, programs
from benchmarks.trace import WARM_S, trace
from tests.harness.running import PYTHON

PARTS: Final[dict[str, Callable[[argparse.Namespace, Results], None]]] = {
    "trace": trace,
    "revalidated": revalidating.measure,
    "latency": adding,
    "sizes": sizes,
    "stored": stored,
    "credentials": credentials,
    "misses": misses,
    "passing": passing,
    "layers": layers,
}
MILLION: Final = 1_000_000


def positive(text: str) -> int:
    """Return a whole number above zero. Raises `argparse.ArgumentTypeError`."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above zero")
    return int(text)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def several(name: str, default: list[int], what: str) -> None:
        parser.add_argument(name, type=positive, nargs="+", default=default, help=what)

    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts")
    parser.add_argument("--rounds", type=positive, default=5, help="of what is compared")
    parser.add_argument("--seconds", type=positive, default=4, help="of each measurement")
    parser.add_argument("--warm", type=positive, default=WARM_S, help="seconds before the trace")
    several("--connections", [1, 16, 64, 256], "of wrk")
    several("--rates", [50, 200, 500], "requests/s")
    several("--sizes", [1_000, 4_000, 23_000, 100_000, 1_000_000, 8_000_000], "bytes")
    several("--stored", [1_000, 10_000, 100_000], "representations")
    several("--credentials", [1, 10, 100, 1_000], "for each resource")
    parser.add_argument(
        "--million", action="store_true", help="a million representations, too (about 10 GB)"
    )
    parser.add_argument(
        "--no-urls",
        action="store_false",
        dest="urls",
        help="content without URLs of the API, in which nothing has to be rewritten",
    )
    parser.add_argument("--json", type=Path, help="write all of it here, too")
    options = parser.parse_args(arguments)
    if options.million:
        options.stored.append(MILLION)
    if options.json is not None and not options.json.parent.is_dir():
        parser.error(f"argument --json: there is no directory {options.json.parent}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    options = _options(arguments)
    end_in_order()
    for name, value in {**machine(), **programs()}.items():
        print(f"{name:10}{value}")
    results = Results()
    for name in options.only:
        print(f"\n== {name}", flush=True)
        PARTS[name](options, results)
    if options.json is not None:
        given = shlex.join(sys.argv[1:] if arguments is None else arguments)
        # where it lies is nobody's business
        given = given.replace(str(options.json), options.json.name)
        folder = Path(sys.prefix).name
        where = "" if folder == ".venv" else f" VENV={folder}"
        where += "" if PYTHON == OWN else " PYPY=pypy3"
        results.write(options.json, f'make bench{where} BENCH="{given}"', vars(options))
    return results.bars.end()


if __name__ == "__main__":
    sys.exit(main())
