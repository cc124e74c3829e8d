"""What stands between clients and GitHub, to be compared: the mirror, Varnish and nginx."""

from __future__ import annotations

import re
import sys
import urllib.request
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final, Protocol

from attrs import frozen

from benchmarks import usage
from benchmarks.programs import Program, nginx
from tests.harness.redis_servers import RedisServer, free_port
from tests.harness.running import PYTHON, BlockingMirror

_COUNTED: Final = re.compile(r"^ghmirror_requests_total\{(.*)\} (\S+)$", re.MULTILINE)
_OUTCOME: Final = re.compile(r'outcome="([a-z]+)"')
_GONE: Final = 'status="499"'

#: Every GET is a conditional one to GitHub, by whoever asks: what is stored is fresh for a
#: microsecond, and then kept to be validated (what is never fresh isn't even kept), and nobody
#: waits for what somebody else is asking.
_VCL: Final = """\
vcl 4.1;
backend github {{ .host = "127.0.0.1"; .port = "{port}"; }}
sub vcl_recv {{
    if (req.method != "GET" && req.method != "HEAD") {{ return (pass); }}
    set req.hash_ignore_busy = true;
    return (hash);
}}
sub vcl_hash {{
    hash_data(req.url);
    hash_data(req.http.Authorization);
    return (lookup);
}}
sub vcl_backend_response {{
    set beresp.ttl = 0.001ms;
    set beresp.grace = 0s;
    set beresp.keep = 1d;
    return (deliver);
}}
"""

_PASSING: Final = """\
upstream github {{
    server 127.0.0.1:{github};
    keepalive 512;
    keepalive_requests 1000000000;
}}
access_log off;
server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
        proxy_pass http://github;
        proxy_http_version 1.1;
        proxy_set_header Host 127.0.0.1:{github};
        proxy_set_header Connection "";
    }}
}}
"""


class Subject(Protocol):
    """Something that clients ask in GitHub's place."""

    @property
    def name(self) -> str:
        """How it is called in results."""

    @property
    def url(self) -> str:
        """Where it is."""

    @property
    def pids(self) -> Sequence[int]:
        """All processes that it takes."""

    @property
    def stores(self) -> bool:
        """Whether it validates what it has stored; else it passes everything on."""


class Between(Program):
    """A program before a GitHub that listens on *github_port*."""

    def __init__(self, github_port: int) -> None:
        super().__init__()
        self.port = free_port()
        self._github_port = github_port

    @property
    def pids(self) -> list[int]:
        """All of its processes: one that watches, if there is such a one, and those that work."""
        return list(usage.family(self.pid))


class Varnish(Between):
    """Varnish, which validates what it has stored with each GET; it runs inside a ``with``."""

    name = "Varnish"
    stores = True

    def command(self) -> list[str]:
        """Write what it does with requests; return how it is started."""
        vcl = self.folder / "default.vcl"
        vcl.write_text(_VCL.format(port=self._github_port))
        where = ["-a", f"127.0.0.1:{self.port}", "-n", str(self.folder / "work"), "-T", "none"]
        return ["varnishd", "-F", "-j", "none", "-f", str(vcl), "-s", "malloc,1g", *where]


class Nginx(Between):
    """An nginx that passes everything on, and stores nothing; it runs inside a ``with``."""

    name = "nginx"
    stores = False

    def command(self) -> list[str]:
        """Write its configuration; return how it is started."""
        return nginx(self.folder, _PASSING.format(port=self.port, github=self._github_port))


class TwistedAlone(Between):
    """Twisted without a mirror; see `twisted_alone`. It runs inside a ``with``."""

    name = "Twisted alone"
    stores = True

    def command(self) -> list[str]:
        """Return how it is started."""
        program = Path(__file__).with_name("twisted_alone.py")
        return [str(PYTHON), str(program), str(self.port), str(self._github_port)]


class PackagesProxy(Between):
    """A proxy made of packages; see `packages_proxy`. It runs inside a ``with``."""

    name = "Python packages"
    stores = True

    @staticmethod
    def versions() -> str:
        """Return the packages and their versions."""
        return ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "httpx", "hishel"))

    def command(self) -> list[str]:
        """Return how it is started."""
        program = Path(__file__).with_name("packages_proxy.py")
        url = f"http://127.0.0.1:{self._github_port}"
        return [sys.executable, str(program), str(self.port), url]


@frozen(eq=False)
class Mirrored:
    """A mirror that runs, and the Redis that it is on, if any."""

    name: str
    mirror: BlockingMirror
    redis: RedisServer | None = None
    stores: bool = True

    @property
    def url(self) -> str:
        return self.mirror.url

    @property
    def pids(self) -> list[int]:
        """The mirror, and Redis."""
        return [self.mirror.pid, *([self.redis.pid] if self.redis else [])]

    def outcomes(self) -> Counter[str]:
        """Return how many answers had which outcome so far; not those that nobody waited for."""
        with urllib.request.urlopen(f"{self.mirror.admin_url}/metrics") as response:
            text = response.read().decode()
        counted: Counter[str] = Counter()
        for labels, value in _COUNTED.findall(text):
            outcome = _OUTCOME.search(labels)
            if outcome and _GONE not in labels:
                counted[outcome[1]] += round(float(value))
        return counted


@frozen
class Listening:
    """Anything else that runs."""

    name: str
    url: str
    pids: tuple[int, ...]
    stores: bool


def settings(
    github_url: str, redis: RedisServer | None = None, **github: object
) -> dict[str, dict[str, object]]:
    """Return what a mirror is started with to be measured: all as it is by default, but silent."""
    return {
        "github": {"api_url": github_url, **github},
        "cache": {
            "backend": "memory" if redis is None else "redis",
            "credential_secret": "of the benchmark",
        },
        "redis": {} if redis is None else {"url": "redis://{}:{}".format(*redis.address)},
        "log": {"access": "none"},
    }
