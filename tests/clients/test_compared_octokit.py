"""Octokit with its plugins sees the same through the mirror, but for what is listed."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.trial.unittest import TestCase

from tests.clients.compare import Both, Side, Sides, Upstream, sides_of
from tests.clients.programs import json_output_of, node
from tests.clients.scene import (
    FOUND,
    TOKEN,
    furnish,
    furnish_limits,
    furnish_release,
    seen,
)
from tests.fakes.github import GitHub

PLUGINS = ("@octokit/rest", "@octokit/plugin-retry", "@octokit/plugin-throttling")


def furnish_more(github: GitHub) -> None:
    """Create labels, a release that accepts assets, and limits, too."""
    furnish(github)
    furnish_limits(github)
    furnish_release(github)
    github.put_list("/repos/octo/hello/labels", [{"id": 1, "name": "bug"}])


def without_times(called: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the calls of handlers, and the times that they got."""
    others = [{k: v for k, v in call.items() if k != "retryAfter"} for call in called]
    return others, [call["retryAfter"] for call in called]


class Octokit(TestCase):
    """With the throttling and the retry plugin, neither of which really waits."""

    timeout: ClassVar[float] = 120

    sides: Sides

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.sides = await sides_of(self, furnish_more)

    async def run_both(self, *arguments: str) -> Both:
        """Run a situation, or without one what all clients look at."""
        script = "octokit_compared.mjs" if arguments[1:] else "octokit_client.mjs"

        async def client(side: Side) -> Any:
            return await json_output_of([*node(script, *PLUGINS), side.url, *arguments])

        both = await self.sides.run(client)
        assert both.unexplained() == []
        return both

    async def test_reading(self) -> None:
        """Pages along `Link`, own validators, URLs, search and GraphQL are the same."""
        both = await self.run_both(TOKEN)
        assert both.report == seen()
        assert both.paid == (21, 20)
        both = await self.run_both(TOKEN, "read")
        assert (both.report["found"], both.report["login"]) == (FOUND, "alice")
        # GraphQL has no validators
        assert both.paid == (3, 1)

    async def test_simultaneous_requests_are_charged_once(self) -> None:
        """Ten simultaneous requests have the same response, and one is charged."""
        both = await self.run_both(TOKEN, "together")
        assert both.report == [both.report[0]] * 10
        assert both.paid == (10, 1)

    async def test_writing(self) -> None:
        """A write, the list that it changed, and an upload to the URL in the release."""
        both = await self.run_both(TOKEN, "write")
        assert both.report["label"] == {"status": 201, "data": {"id": 2, "name": "a label"}}
        assert both.report["labels"] == ["bug", "a label"]
        assert both.report["asset"] == [201, 7, "asset.bin"]
        assert both.report["missing"]["status"] == 404
        assert both.upstream == (Upstream(5, 5), Upstream(5, 5))

    async def test_rate_limit(self) -> None:
        """The plugin calls the same handlers with the same times, without requests to GitHub."""
        for kind in ("primary", "secondary"):
            both = await self.run_both(f"{kind}-limit", "requestTwice")
            assert both.mirrored_report["requests"] == both.direct_report["requests"]
            assert {each["status"] for each in both.direct_report["requests"]} == {403}
            direct, times = without_times(both.direct_report["calls"])
            mirrored, other_times = without_times(both.mirrored_report["calls"])
            assert mirrored == direct
            assert [call["kind"] for call in direct] == [kind] * 6
            assert [call["retryCount"] for call in direct] == [0, 1] * 3
            # both count down, while both run
            differ = [abs(time - other) for time, other in zip(times, other_times, strict=True)]
            assert max(differ) < 30, (times, other_times)
            assert both.upstream == (Upstream(6, 0), Upstream(1, 0))

    async def test_failures(self) -> None:
        """The plugin retries GitHub's 5xx, which the mirror forwards."""
        path = "/repos/octo/hello"
        self.sides.each(lambda github: github.fault(path, "502", times=2, login="alice"))
        both = await self.run_both(TOKEN, "requestTwice")
        assert [each["status"] for each in both.report["requests"]] == [200, 200, 200]
        assert both.upstream == (Upstream(5, 3), Upstream(5, 2))

    async def test_failures_after_reading(self) -> None:
        """Directly the plugin has to retry; the mirror sends the stored response."""
        await self.run_both(TOKEN, "requestTwice")
        self.sides.each(lambda github: github.fault(None, "503", times=2, login="alice"))

        async def client(side: Side) -> Any:
            command = node("octokit_compared.mjs", *PLUGINS)
            return await json_output_of([*command, side.url, TOKEN, "requestTwice"])

        both = await self.sides.run(client)
        assert both.mirrored_report == both.direct_report
        assert [each.status for each in both.direct] == [503, 503, 200, 200, 200]
        assert [each.status for each in both.mirrored] == [200, 200, 200]
        stale = [each.values("x-from-cache") for each in both.mirrored]
        assert stale == [["1"], ["1"], []]
