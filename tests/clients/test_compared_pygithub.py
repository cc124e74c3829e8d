"""PyGithub sees through the mirror what it sees directly, but for what is listed."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar

from twisted.trial.unittest import TestCase

from tests.clients.compare import Both, Side, Sides, Upstream, sides_of, sides_of_github_com
from tests.clients.programs import json_output_of
from tests.clients.scene import (
    ASSETS,
    ISSUES,
    TOKEN,
    furnish,
    furnish_limits,
    furnish_release,
    put_issues,
    put_release,
    seen,
)
from tests.fakes.github import GitHub

MODULE = "tests.clients.pygithub_compared"


def furnish_more(github: GitHub) -> None:
    """Create a repository that the client may not see, and limits, too."""
    furnish(github)
    furnish_limits(github)
    github.repository("octo/secret", {"octo": "admin"}, private=True)


def use_429(github: GitHub) -> None:
    github.limit_status = github.secondary_status = 429


class PyGithub(TestCase):
    """With the base URL that README has for it."""

    timeout: ClassVar[float] = 120

    sides: Sides

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.sides = await sides_of(self, furnish_more)

    async def run_both(self, situation: str, token: str = TOKEN) -> Both:
        """Run PyGithub in a situation, both ways."""

        async def client(side: Side) -> Any:
            return await json_output_of([sys.executable, "-m", MODULE, side.url, token, situation])

        both = await self.sides.run(client)
        assert both.unexplained() == []
        assert both.connections[0] == both.connections[1]
        return both

    async def test_reading(self) -> None:
        """Pages, `totalCount`, URLs and a renamed repository are the same, and charged once."""
        both = await self.run_both("report")
        assert both.report == seen()
        assert both.paid == (19, 17)
        both = await self.run_both("report")
        assert both.report == seen()
        # a redirect, a 404 and a 401 have no validator
        assert both.paid == (19, 3)
        for total in (ISSUES + 35, ISSUES - 20):
            self.sides.each(partial(put_issues, total=total))
            both = await self.run_both("report")
            assert both.report == seen(total)
            # `Link` has changed, which no entity-tag covers
            assert both.paid[1] < both.paid[0]

    async def test_exceptions(self) -> None:
        """Missing, hidden and refused resources raise the same exceptions with the same content."""
        both = await self.run_both("failures")
        assert {name: each["class"] for name, each in both.report.items()} == {
            "missing": "UnknownObjectException",
            "hidden": "UnknownObjectException",
            "refused": "BadCredentialsException",
            "anonymous": "GithubException",
        }
        assert both.upstream == (Upstream(4, 4), Upstream(4, 4))

    async def test_rate_limit(self) -> None:
        """A limit raises the same each time, without further requests to GitHub."""
        for kind in ("primary-limit", "secondary-limit"):
            both = await self.run_both("limited", kind)
            classes = [each["class"] for each in both.report["failures"]]
            assert classes == ["RateLimitExceededException"] * 3
            assert both.upstream == (Upstream(3, 0), Upstream(1, 0))

    async def test_rate_limits_by_429(self) -> None:
        """GitHub may use either status; PyGithub recognises limits by one of them."""
        self.sides.each(use_429)
        for kind in ("primary-limit", "secondary-limit"):
            both = await self.run_both("limited", kind)
            assert [each["status"] for each in both.report["failures"]] == [429] * 3
            assert both.upstream == (Upstream(3, 0), Upstream(1, 0))

    async def test_remaining_quota(self) -> None:
        """PyGithub has the quota of GitHub's last response; a 304 is not charged."""
        both = await self.run_both("quota")
        assert [each[0] for each in both.direct_report["after"]] == [4999, 4998]
        assert [each[0] for each in both.mirrored_report["after"]] == [4999, 4999]
        direct, mirrored = (
            {**report, "after": [each[1:] for each in report["after"]]}
            for report in (both.direct_report, both.mirrored_report)
        )
        assert direct == mirrored

    async def test_rate_limit_after_reading(self) -> None:
        """Directly a limit is an exception; the mirror sends the stored response."""
        await self.run_both("read")
        self.sides.each(lambda github: github.fault(None, "primary-limit", login="alice"))
        both = await self.sides.run(
            lambda side: json_output_of([sys.executable, "-m", MODULE, side.url, TOKEN, "read"])
        )
        assert both.direct_report["class"] == "RateLimitExceededException"
        assert both.mirrored_report == {"class": None}
        (pair,) = both.pairs()
        assert pair.mirrored.values("x-from-cache") == ["1"]
        # by these, clients go slowly
        assert pair.mirrored.values("x-ratelimit-remaining") == ["0"]


class BelowAPrefix(TestCase):
    """With the base URL of an Enterprise server, PyGithub requires its path of each URL."""

    timeout: ClassVar[float] = 120

    async def test_all_requests_below_a_prefix(self) -> None:
        """All is the same as directly without the prefix, also the upload of an asset."""

        def furnish_all(github: GitHub) -> None:
            furnish(github)
            furnish_release(github)

        sides = await sides_of(self, furnish_all, shape="/api/v3")

        async def client(side: Side) -> Any:
            command = [sys.executable, "-m", MODULE, side.url, TOKEN]
            return [
                await json_output_of([*command, "report"]),
                await json_output_of([*command, "upload", __file__]),
            ]

        both = await sides.run(client)
        assert both.unexplained() == []
        report, upload = both.report
        assert report == seen()
        assert (upload["asset"], upload["id"]) == ("asset.bin", 7)


class AtGitHubCom(TestCase):
    """Where uploads go to a host of their own, ``uploads.github.com``."""

    timeout: ClassVar[float] = 120

    async def test_upload_reaches_the_upload_host(self) -> None:
        """An asset is uploaded to that host, with the base URL from README."""
        folder = Path(mkdtemp(prefix="pygithub-"))
        self.addCleanup(shutil.rmtree, folder)
        path = folder / "asset.zip"
        path.write_bytes(b"PK" + bytes(200_000))

        def furnish_release(github: GitHub) -> None:
            furnish(github)
            put_release(github, "https://uploads.github.com")
            asset = {"id": 7, "name": "asset.zip", "url": f"{github.api_url}{ASSETS}/7"}
            github.put(ASSETS, asset, method="POST", status=201)

        sides = await sides_of_github_com(self, furnish_release, folder)

        async def client(side: Side) -> Any:
            more = {}
            if side.is_direct:
                authority = str(folder / "authority.pem")
                more = {"HTTPS_PROXY": side.tap.url, "REQUESTS_CA_BUNDLE": authority}
            command = [sys.executable, "-m", MODULE, side.url, TOKEN, "upload", str(path)]
            return await json_output_of(command, more)

        both = await sides.run(client)
        assert both.unexplained() == []
        assert both.report == {
            "upload_url": f"<URL>/api/uploads{ASSETS}{{?name,label}}",
            "asset": "asset.zip",
            "id": 7,
        }
        for side in (sides.direct, sides.mirrored):
            (sent,) = side.github.exchanges(ASSETS)
            assert sent.field(b"host") == b"uploads.github.com"
            assert sent.target == f"{ASSETS}?label=An+asset&name=asset.zip".encode()
            assert (sent.login, sent.field(b"content-type")) == ("alice", b"application/zip")
            assert sent.field(b"content-length") == b"200002"
            assert sent.body == path.read_bytes()[:65_536]
