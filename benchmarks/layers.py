"""Where the time of a revalidated GET goes, layer by layer, as py-spy sees it.

py-spy looks at the mirror 500 times a second while it is asked as fast as it answers; GitHub's
stand-in speaks TLS, as GitHub does. What a layer calls that is none, such as Python's own library,
counts for the layer.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.beside import Mirrored, settings
from benchmarks.fast_github import FastGitHub
from benchmarks.growing import CONNECTIONS
from benchmarks.measuring import revalidated, warm
from benchmarks.python import OWN
from benchmarks.results import Results
from benchmarks.revalidating import MEMORY, REDIS, things
from tests.harness.certificates import Authority
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

PART: Final = "layers"
OTHER: Final = "other"
_PY_SPY: Final = Path(sys.executable).with_name("py-spy")
_TIMES_A_SECOND: Final = 500
_BEFORE_AND_AFTER_S: Final = 2.0

ROOMS: Final = (
    *("web", "proxy", "upstream", "caching", "github", "http", "store", "redis_store", "redis"),
    *("telemetry", "runtime", "snapshots"),
)

_LAYERS: Final = (
    ("ghmirror_tw/http/content_codings.py", "gzip and rewriting"),
    ("ghmirror_tw/github/url_rewriting.py", "gzip and rewriting"),
    *((f"ghmirror_tw/{room}/", room) for room in ROOMS),
    ("ghmirror_tw/", "service"),
    ("txredisapi", "redis"),
    ("prometheus_client/", "telemetry"),
    ("treq/", "treq"),
    ("twisted/protocols/tls.py", "TLS"),
    ("twisted/internet/_sslverify.py", "TLS"),
    ("OpenSSL/", "TLS"),
    ("twisted/web/client.py", "Twisted's client"),
    ("twisted/web/_newclient.py", "Twisted's client"),
    ("twisted/web/http.py", "Twisted's server"),
    ("twisted/web/server.py", "Twisted's server"),
    ("twisted/web/resource.py", "Twisted's server"),
    ("twisted/internet/defer.py", "Deferreds"),
    ("twisted/internet/", "reactor and sockets"),
)
"""The beginning of a module's path, and the layer that it belongs to; the first one counts."""

_WAITING: Final = re.compile(r"\bwait \(.*/threading\.py:")
"""The innermost frame of a thread that has nothing to do."""


def layer_of(frame: str) -> str | None:
    """Return the layer of a frame, ``function (path:line)``; None if it has none of its own."""
    path = frame.rpartition(" (")[2]
    path = path.rpartition("site-packages/")[2]
    start = path.find("ghmirror_tw/")
    path = path[start:] if start > 0 else path
    return next((layer for prefix, layer in _LAYERS if path.startswith(prefix)), None)


def shares(folded: str) -> dict[str, float]:
    """Return each layer's share of the samples, the largest first.

    *folded*: a line for each stack, its frames from the outermost on, and how often it was seen.
    """
    seen: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, times = line.rpartition(" ")
        frames = stack.split(";")
        if _WAITING.search(frames[-1]):
            continue
        layers = map(layer_of, reversed(frames))
        seen[next(filter(None, layers), OTHER)] += int(times)
    total = seen.total()
    if not total:
        raise SystemExit("py-spy has seen nothing")
    return {layer: times / total for layer, times in seen.most_common()}


def profile(pid: int, seconds: float) -> str:
    """Return what py-spy sees of a process in so many seconds, as folded stacks."""
    with tempfile.TemporaryDirectory(prefix="profile-") as folder:
        output = Path(folder) / "stacks"
        command = [str(_PY_SPY), "record", "--pid", str(pid), "--output", str(output)]
        command += ["--format", "raw", "--full-filenames", "--rate", str(_TIMES_A_SECOND)]
        command += ["--duration", str(max(1, round(seconds)))]
        if not _PY_SPY.exists():
            raise SystemExit("py-spy is not installed: make bench does that")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not output.exists():
            raise SystemExit(
                f"py-spy failed; it may need root to look at another process:\n{done.stderr}"
            )
        return output.read_text()


def layers(options: argparse.Namespace, results: Results) -> None:
    """Measure with either store, and print the shares."""
    found: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        github = stack.enter_context(FastGitHub(things(options), authority=Authority.new()))
        redis = stack.enter_context(RedisServer())
        questions = [(target, "token0") for target in github.things]
        for name, on in ((MEMORY, None), (REDIS, redis)):
            sections = settings(github.url, on, ca_path=github.certificate_path)
            # py-spy knows the stacks of CPython alone
            mirror = stack.enter_context(BlockingMirror(sections, python=OWN))
            warm(mirror.url, questions, is_mirror=False)
            with ThreadPoolExecutor(1) as aside:
                driving = aside.submit(
                    revalidated,
                    github,
                    Mirrored(name, mirror, on),
                    questions,
                    connections=CONNECTIONS,
                    seconds=options.seconds + _BEFORE_AND_AFTER_S,
                )
                found[name] = shares(profile(mirror.pid, options.seconds))
                driving.result()
    print(f"\nShares of time, revalidated GETs over TLS{'memory':>16}{'Redis':>9}")
    for layer in dict.fromkeys((*found[MEMORY], *found[REDIS])):
        columns = (found[name].get(layer, 0.0) for name in (MEMORY, REDIS))
        print(f"  {layer:48}" + "".join(f"{each:9.1%}" for each in columns))
    results.tables[PART] = found
