"""The CPU time of a revalidated GET by layer, from samples of py-spy.

py-spy samples the mirror's stacks 500 times a second under full load. GitHub's stand-in uses TLS,
as GitHub does. Code outside all layers, such as the standard library, counts for its caller.
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

from benchmarks.interpreters import OWN
from benchmarks.measurement import measure_revalidated, warm
from benchmarks.nginx_github import NginxGitHub
from benchmarks.results import Results
from benchmarks.revalidation import MEMORY, REDIS, make_resources
from benchmarks.scaling import CONNECTIONS
from benchmarks.subjects import MirrorSubject, settings
from tests.harness.certificates import Authority
from tests.harness.redis_servers import RedisServer
from tests.harness.running import BlockingMirror

PART: Final = "layers"
OTHER: Final = "other"
_PY_SPY: Final = Path(sys.executable).with_name("py-spy")
_SAMPLES_PER_S: Final = 500
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
"""The prefix of a module's path, and its layer; the first match counts."""

_WAITING: Final = re.compile(r"\bwait \(.*/threading\.py:")
"""The innermost frame of an idle thread."""


def layer_of(frame: str) -> str | None:
    """Return the layer of a frame, ``function (path:line)``; None if it is in no layer."""
    path = frame.rpartition(" (")[2]
    path = path.rpartition("site-packages/")[2]
    start = path.find("ghmirror_tw/")
    path = path[start:] if start > 0 else path
    return next((layer for prefix, layer in _LAYERS if path.startswith(prefix)), None)


def shares(folded: str) -> dict[str, float]:
    """Return each layer's share of the samples, the largest first.

    *folded*: a line for each stack with its frames, the outermost first, and its count.
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
        raise SystemExit("py-spy has no samples")
    return {layer: times / total for layer, times in seen.most_common()}


def profile(pid: int, seconds: float) -> str:
    """Return the samples of a process in so many seconds, as folded stacks."""
    with tempfile.TemporaryDirectory(prefix="profile-") as folder:
        output = Path(folder) / "stacks"
        command = [str(_PY_SPY), "record", "--pid", str(pid), "--output", str(output)]
        command += ["--format", "raw", "--full-filenames", "--rate", str(_SAMPLES_PER_S)]
        command += ["--duration", str(max(1, round(seconds)))]
        if not _PY_SPY.exists():
            raise SystemExit("py-spy is not installed; make bench installs it")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not output.exists():
            raise SystemExit(
                f"py-spy failed; it may need root to sample another process:\n{done.stderr}"
            )
        return output.read_text()


def profile_layers(options: argparse.Namespace, results: Results) -> None:
    """Profile a mirror with each store, and print the shares."""
    found: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        github = stack.enter_context(
            NginxGitHub(make_resources(options), authority=Authority.new())
        )
        redis = stack.enter_context(RedisServer())
        requests = [(target, "token0") for target in github.resources]
        for name, on in ((MEMORY, None), (REDIS, redis)):
            sections = settings(github.url, on, ca_path=github.certificate_path)
            # py-spy reads the stacks of CPython only
            mirror = stack.enter_context(BlockingMirror(sections, python=OWN))
            warm(mirror.url, requests, is_mirror=False)
            with ThreadPoolExecutor(1) as executor:
                load = executor.submit(
                    measure_revalidated,
                    github,
                    MirrorSubject(name, mirror, on),
                    requests,
                    connections=CONNECTIONS,
                    seconds=options.seconds + _BEFORE_AND_AFTER_S,
                )
                found[name] = shares(profile(mirror.pid, options.seconds))
                load.result()
    print(f"\nShares of time, revalidated GETs over TLS{'memory':>16}{'Redis':>9}")
    for layer in dict.fromkeys((*found[MEMORY], *found[REDIS])):
        columns = (found[name].get(layer, 0.0) for name in (MEMORY, REDIS))
        print(f"  {layer:48}" + "".join(f"{each:9.1%}" for each in columns))
    results.tables[PART] = found
