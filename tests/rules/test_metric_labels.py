"""Labels of metrics from GitHub's responses are few, short, and plain."""

from __future__ import annotations

import re

from twisted.trial.unittest import TestCase

from ghmirror_tw.telemetry.user_series import USER_SERIES
from tests.harness.home import open_home

RESOURCE = re.compile(r'^ghmirror_quota_remaining\{resource="([^"]*)"', re.MULTILINE)


class Labels(TestCase):
    """Of `X-RateLimit-Resource`."""

    async def test_names_of_resources(self) -> None:
        """An invalid name is no label, and a server with invented names fills no memory."""
        home = await open_home(self)
        home.github.sends_quota = False
        names = ["x" * 65, "x" * 5_000, 'a"b', "Core", "a b", "\xe9", "a,b", "search"]
        names += [f"made_up_{number}" for number in range(USER_SERIES + 50)]
        for number, name in enumerate(names):
            fields = {"X-RateLimit-Remaining": "1", "X-RateLimit-Reset": "2"}
            home.github.put(f"/{number}", {}, fields=fields | {"X-RateLimit-Resource": name})
            assert (await home.get(f"/{number}", token="alice-1")).status == 200
            if number == 7:
                shown = (await home.admin("/metrics")).content.decode()
                assert set(RESOURCE.findall(shown)) == {"core", "search"}
        shown = (await home.admin("/metrics")).content.decode()
        assert len(RESOURCE.findall(shown)) <= USER_SERIES
