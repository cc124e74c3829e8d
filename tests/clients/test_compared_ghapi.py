"""ghapi sees through the mirror what it sees directly, but for what is listed."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import TestCase

from tests.clients.compare import Both, Side, Sides, Upstream, sides_of
from tests.clients.programs import json_output_of
from tests.clients.scene import ASSETS, ISSUES, TOKEN, furnish, furnish_limits, furnish_release
from tests.fakes.github import GitHub

PATH = Path(__file__)
CONTENT = PATH.read_bytes()


def furnish_more(github: GitHub) -> None:
    """Create a release that accepts assets, and limits, too."""
    furnish(github)
    furnish_limits(github)
    furnish_release(github)


class GhApi(TestCase):
    """It has the fields of responses in a plain dict, which is looked up letter by letter."""

    timeout: ClassVar[float] = 120

    sides: Sides

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.sides = await sides_of(self, furnish_more)

    async def run_both(self, *arguments: str) -> Both:
        """Run a situation, both ways."""

        async def client(side: Side) -> Any:
            module = "tests.clients.ghapi_compared"
            return await json_output_of([sys.executable, "-m", module, side.url, TOKEN, *arguments])

        both = await self.sides.run(client)
        assert both.unexplained() == []
        assert both.connections[0] == both.connections[1]
        return both

    async def test_reading(self) -> None:
        """Fields by their exact names, URLs, pages by number and by `Link` are the same."""
        for paid in (6, 1):
            both = await self.run_both("read")
            assert None not in both.report["fields"].values()
            assert both.report["last_page"] == -(-ISSUES // 20)
            assert list(chain(*both.report["pages"][1:])) == list(range(1, ISSUES + 1))
            # an empty page behind the last one is not stored
            assert both.paid == (6, paid)

    async def test_callback_for_limits(self) -> None:
        """The callback runs when the remaining quota changes, so not for a 304."""
        both = await self.run_both("limits")
        left = [4999, 4998, 4997, 4996, 4995]
        assert both.direct_report == {"calls": [[n, 5000] for n in left], "remaining": "4995"}
        assert both.mirrored_report == {"calls": [[n, 5000] for n in left[:3]], "remaining": "4997"}
        assert both.upstream == (Upstream(5, 5), Upstream(5, 3))

    async def test_failures(self) -> None:
        """Exceptions and their texts are the same, and the callback is not called."""
        both = await self.run_both("failures")
        classes = {name: each["class"] for name, each in both.report.items() if name != "calls"}
        assert classes == {
            "missing": "HTTP404NotFoundError",
            "refused": "HTTP401UnauthorizedError",
            "limited": "HTTP403ForbiddenError",
            "limited_again": "HTTP403ForbiddenError",
        }
        assert both.report["calls"] == []
        assert both.upstream == (Upstream(4, 2), Upstream(3, 2))

    async def test_upload(self) -> None:
        """An asset is uploaded to the URL in the release."""
        both = await self.run_both("upload", str(PATH))
        assert both.report == {"id": 7, "name": "asset.bin"}
        for side in (self.sides.direct, self.sides.mirrored):
            (sent,) = side.github.exchanges(f"/api/uploads{ASSETS}")
            assert sent.body == CONTENT
            assert sent.target.endswith(f"?name={PATH.name}".encode())
