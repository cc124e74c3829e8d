"""Two mirrors in this process that share a Redis server and a stand-in for GitHub."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from tests.harness.home import open_home
from tests.harness.redis_servers import start_redis


class TwoReplicas(TestCase):
    """*one* and *other* with equal *options*, and a resource ``/thing`` at *github*."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        host, port = start_redis(self).address
        self.options: dict[str, dict[str, Any]] = {
            "cache": {"backend": "redis"},
            "redis": {"url": f"redis://{host}:{port}", "timeout": 30.0},
        }
        self.one = await open_home(self, **self.options)
        self.github = self.one.github
        self.other = await open_home(self, self.github, **self.options)
        self.github.put("/thing", {"a": 1})
