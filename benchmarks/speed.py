"""The speed of the mirror, in comparison with Varnish (validation) and nginx (no cache).

    make bench BENCH='--json speed.json'
    python -m benchmarks.speed --only revalidated --rounds 3 --seconds 2

Parts, all of them by default:

trace        traffic like that of a fleet of bots: 48 clients, 4,000 paths, pages of lists
revalidated  500 URLs of 23 kB, one credential, gzip, with 1 to 256 connections (wrk): CPU time,
             requests/s, percentiles and memory of the mirror with each store, and of the others
latency      the latency added to a response of 100 ms, at a fixed rate
sizes        the same GETs by size of content
stored       by the number of stored representations, and their memory
credentials  by the number of credentials with grants for the same resources
misses       requests without a stored response
passing      MB/s of content that is not stored, in comparison with nginx
layers       the CPU time by layer, by py-spy

GitHub's stand-in is an nginx that knows the entity-tags. CPU time is that of all processes of a
subject, from /proc. The program exits if a part does not measure the intended case: if a request
failed, if the mirror did not validate a response, or if Varnish did not send a conditional request
and receive a 304. The exit status is 1 if a threshold is exceeded.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks import revalidation
from benchmarks.added_latency import measure_added_latency
from benchmarks.interpreters import OWN
from benchmarks.layer_profile import profile_layers
from benchmarks.misses import measure_misses
from benchmarks.passthrough import measure_passthrough
from benchmarks.process_control import exit_cleanly_on_signals
from benchmarks.results import Results, machine, programs
from benchmarks.scaling import measure_credentials, measure_sizes, measure_stored
from benchmarks.trace import WARM_S, measure_trace
from tests.harness.running import PYTHON

PARTS: Final[dict[str, Callable[[argparse.Namespace, Results], None]]] = {
    "trace": measure_trace,
    "revalidated": revalidation.measure,
    "latency": measure_added_latency,
    "sizes": measure_sizes,
    "stored": measure_stored,
    "credentials": measure_credentials,
    "misses": measure_misses,
    "passing": measure_passthrough,
    "layers": profile_layers,
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
    parser.add_argument("--rounds", type=positive, default=5, help="of each comparison")
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
        help="content without URLs of the API, which needs no rewriting",
    )
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args(arguments)
    if options.million:
        options.stored.append(MILLION)
    if options.json is not None and not options.json.parent.is_dir():
        parser.error(f"argument --json: there is no directory {options.json.parent}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    options = _options(arguments)
    exit_cleanly_on_signals()
    for name, value in {**machine(), **programs()}.items():
        print(f"{name:10}{value}")
    results = Results()
    for name in options.only:
        print(f"\n== {name}", flush=True)
        PARTS[name](options, results)
    if options.json is not None:
        line = shlex.join(sys.argv[1:] if arguments is None else arguments)
        # without the directory of the file
        line = line.replace(str(options.json), options.json.name)
        folder = Path(sys.prefix).name
        variables = "" if folder == ".venv" else f" VENV={folder}"
        variables += "" if PYTHON == OWN else " PYPY=pypy3"
        results.write(options.json, f'make bench{variables} BENCH="{line}"', vars(options))
    return results.thresholds.end()


if __name__ == "__main__":
    sys.exit(main())
