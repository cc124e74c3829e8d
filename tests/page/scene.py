"""A real mirror in a process of its own, before a stand-in for GitHub in another."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

from attrs import define, field

from tests.harness.running import ROOT, BlockingMirror, Sections, environment


def send(
    url: str, target: str, *, method: str = "GET", token: str = "", body: str = ""
) -> tuple[int, bytes]:
    """Send a request unchanged, and return the status and content of the response."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    try:
        connection._validate_path = lambda _: None  # type: ignore[attr-defined]
        fields = {"User-Agent": "tests", **({"Authorization": f"token {token}"} if token else {})}
        connection.request(method, target, body or None, fields)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class StandIn:
    """GitHub's stand-in, with users ``user0``… (``token0``…) and ``/repos/bench/repo-0``…."""

    def __init__(self, users: int = 3, resources: int = 5) -> None:
        command = [sys.executable, "-m", "tests.fakes.github", f"--users={users}", "--limit=5000"]
        self._process = subprocess.Popen(
            [*command, f"--resources={resources}"],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def control(self, name: str, **given: object) -> None:
        """Execute a command of the stand-in; see ``GitHub._control``."""
        document = send(self.url, f"/_control/{name}", method="POST", body=json.dumps(given))
        assert document[0] == 200, document


@define(eq=False)
class Scene:
    """A mirror, and its stand-in for GitHub."""

    github: StandIn
    mirror: BlockingMirror
    more: Mapping[str, Any] = field(factory=dict)

    def get(self, target: str, user: int = 0) -> int:
        """Send a request of one of the users to the mirror; return the status."""
        return send(self.mirror.url, target, token=f"token{user}")[0]

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"{self.mirror.admin_url}/"

    @property
    def figures(self) -> Any:
        """The status document, which the page shows."""
        return json.loads(send(self.mirror.admin_url, "/status.json")[1])


def mirror_of(github: StandIn, sections: Sections | None = None) -> BlockingMirror:
    """Return a mirror that is not started yet; it runs inside a ``with``."""
    given = {name: dict(options) for name, options in (sections or {}).items()}
    given["github"] = {"api_url": github.url, **given.get("github", {})}
    return BlockingMirror(given)


def busy(scene: Scene) -> None:
    """Send requests of every kind: paid, free, shared, forwarded, refused, limited."""
    for user in range(3):
        scene.get("/user", user)
        for number in range(5):
            for _ in range(1 + user):
                scene.get(f"/repos/bench/repo-{number}?page=1", user)
    scene.get("/repos/bench/repo-0", 0)
    scene.get("/nothing", 1)
    send(scene.mirror.url, "/repos/bench/repo-0", method="PATCH", token="token0", body="{}")
    scene.github.control("put_search", path="/search/issues", items=[])
    scene.get("/search/issues?q=y", 2)
    scene.github.control(
        "set_quota", login="user2", resource="search", remaining=0, reset_in_s=3600
    )
    assert scene.get("/search/issues?q=x", 2) == 403
