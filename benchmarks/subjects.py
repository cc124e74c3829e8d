"""The systems under test: the mirror, Varnish, nginx and others between clients and GitHub."""

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

from benchmarks import process_usage
from benchmarks.programs import Program, nginx
from tests.harness.redis_servers import RedisServer, free_port
from tests.harness.running import PYTHON, BlockingMirror

_COUNTED: Final = re.compile(r"^ghmirror_requests_total\{(.*)\} (\S+)$", re.MULTILINE)
_OUTCOME: Final = re.compile(r'outcome="([a-z]+)"')
_DISCONNECTED: Final = 'status="499"'

#: Each GET becomes a conditional request to GitHub. A stored response is fresh for a microsecond,
#: and is then retained for validation: Varnish does not retain a response that was never fresh.
#: Requests are not collapsed.
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

_PASSTHROUGH: Final = """\
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
    """A server to which clients send requests in place of GitHub."""

    @property
    def name(self) -> str:
        """The name in results."""

    @property
    def url(self) -> str:
        """The base URL."""

    @property
    def pids(self) -> Sequence[int]:
        """The processes of it."""

    @property
    def stores(self) -> bool:
        """Whether it validates stored responses; otherwise it forwards each request."""


class ProxyProgram(Program):
    """A program before a GitHub that listens on *github_port*."""

    def __init__(self, github_port: int) -> None:
        super().__init__()
        self.port = free_port()
        self._github_port = github_port

    @property
    def pids(self) -> list[int]:
        """Its processes: a supervisor, if there is one, and its workers."""
        return list(process_usage.family(self.pid))


class Varnish(ProxyProgram):
    """Varnish, which validates a stored response for each GET; it runs inside a ``with``."""

    name = "Varnish"
    stores = True

    def command(self) -> list[str]:
        """Write the VCL; return the command."""
        vcl = self.folder / "default.vcl"
        vcl.write_text(_VCL.format(port=self._github_port))
        address = ["-a", f"127.0.0.1:{self.port}", "-n", str(self.folder / "work"), "-T", "none"]
        return ["varnishd", "-F", "-j", "none", "-f", str(vcl), "-s", "malloc,1g", *address]


class Nginx(ProxyProgram):
    """An nginx that forwards each request and stores nothing; it runs inside a ``with``."""

    name = "nginx"
    stores = False

    def command(self) -> list[str]:
        """Write the configuration; return the command."""
        return nginx(self.folder, _PASSTHROUGH.format(port=self.port, github=self._github_port))


class TwistedAlone(ProxyProgram):
    """Twisted without a mirror; see `twisted_alone`. It runs inside a ``with``."""

    name = "Twisted alone"
    stores = True

    def command(self) -> list[str]:
        """Return the command."""
        program = Path(__file__).with_name("twisted_alone.py")
        return [str(PYTHON), str(program), str(self.port), str(self._github_port)]


class PackagesProxy(ProxyProgram):
    """A proxy made of packages; see `packages_proxy`. It runs inside a ``with``."""

    name = "Python packages"
    stores = True

    @staticmethod
    def versions() -> str:
        """Return the packages and their versions."""
        return ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "httpx", "hishel"))

    def command(self) -> list[str]:
        """Return the command."""
        program = Path(__file__).with_name("packages_proxy.py")
        url = f"http://127.0.0.1:{self._github_port}"
        return [sys.executable, str(program), str(self.port), url]


@frozen(eq=False)
class MirrorSubject:
    """A running mirror, and its Redis, if it has one."""

    name: str
    mirror: BlockingMirror
    redis: RedisServer | None = None
    stores: bool = True

    @property
    def url(self) -> str:
        return self.mirror.url

    @property
    def pids(self) -> list[int]:
        """Those of the mirror and of Redis."""
        return [self.mirror.pid, *([self.redis.pid] if self.redis else [])]

    def outcomes(self) -> Counter[str]:
        """Return the number of responses by outcome, without those to disconnected clients."""
        with urllib.request.urlopen(f"{self.mirror.admin_url}/metrics") as response:
            text = response.read().decode()
        counted: Counter[str] = Counter()
        for labels, value in _COUNTED.findall(text):
            outcome = _OUTCOME.search(labels)
            if outcome and _DISCONNECTED not in labels:
                counted[outcome[1]] += round(float(value))
        return counted


@frozen
class RunningSubject:
    """Any other running server."""

    name: str
    url: str
    pids: tuple[int, ...]
    stores: bool


def settings(
    github_url: str, redis: RedisServer | None = None, **github: object
) -> dict[str, dict[str, object]]:
    """Return the defaults for a measured mirror, without an access log."""
    return {
        "github": {"api_url": github_url, **github},
        "cache": {
            "backend": "memory" if redis is None else "redis",
            "credential_secret": "of the benchmark",
        },
        "redis": {} if redis is None else {"url": "redis://{}:{}".format(*redis.address)},
        "log": {"access": "none"},
    }
