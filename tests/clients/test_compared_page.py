"""A page of another origin sees through the mirror what it sees directly, but for what is listed.

In a real browser, with a credential, so that a preflight precedes each kind of request.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from twisted.internet import reactor as global_reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from tests.clients.compare import Both, Side, Sides, sides_of
from tests.clients.scene import TOKEN, furnish
from tests.fakes.github import GitHub
from tests.page.browser import Browser, Page

reactor: Any = global_reactor

#: Requests a target as an application does, and returns all that the script may read.
LOOK = """
(async () => {
  const [url, options] = %s;
  try {
    const response = await fetch(url, {cache: "no-cache", ...options});
    const text = await response.text();
    return {
      status: response.status,
      fields: Object.fromEntries(response.headers),
      data: response.headers.get("content-type")?.includes("json") ? JSON.parse(text) : text,
    };
  } catch (error) {
    return {error: `${error.name}: ${error.message}`};
  }
})()
"""

ADDED = {"cache-status", "x-cache", "x-cache-mode"}
"""The fields of the mirror that scripts may read, in addition to GitHub's."""

UNSEEN = {"error": "TypeError: Failed to fetch"}
"""The result for a script of a response without CORS fields, or of none at all."""


def furnish_more(github: GitHub) -> None:
    """Create another user, and labels, too."""
    furnish(github)
    github.user("bob", tokens=["the-token-of-bob"])
    github.put_list("/repos/octo/hello/labels", [{"id": 1, "name": "bug"}])


class Application(Resource):
    """A page that is everywhere on its host."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"Content-Type", b"text/html; charset=utf-8")
        return b"<!DOCTYPE html><title>An application</title>"


class PageOfAnotherOrigin(TestCase):
    """One browser, with a page for each of the two ways."""

    timeout: ClassVar[float] = 120

    sides: Sides
    pages: dict[bool, Page]

    async def open(self, **server: object) -> None:
        """Start everything; the mirror has these options."""
        self.sides = await sides_of(self, furnish_more, {"server": server})
        port = reactor.listenTCP(0, Site(Application()), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        browser = await deferToThread(Browser)
        self.addCleanup(deferToThread, browser.__exit__)
        at = f"http://127.0.0.1:{port.getHost().port}/"
        self.pages = {
            is_direct: await deferToThread(browser.open, at) for is_direct in (True, False)
        }

    async def look(self, target: str, token: str | None = TOKEN, **options: Any) -> Both:
        """Request a target from both pages."""
        fields = {"Authorization": f"token {token}"} if token else {}
        options["headers"] = {**fields, **options.get("headers", {})}

        async def client(side: Side) -> Any:
            expression = LOOK % json.dumps([side.url + target, options])
            return await deferToThread(self.pages[side.is_direct].value, expression)

        return await self.sides.run(client)

    async def same(self, target: str, **options: Any) -> Both:
        """Request a target from both pages; the results that they may read are equal."""
        both = await self.look(target, **options)
        assert both.unexplained() == []
        direct, mirrored = both.direct_report, both.mirrored_report
        assert {**direct, "fields": {}} == {**mirrored, "fields": {}}
        assert set(mirrored["fields"]) - set(direct["fields"]) == ADDED
        assert set(direct["fields"]) - set(mirrored["fields"]) <= {"content-length"}
        return both

    async def test_reading_and_writing(self) -> None:
        """A miss, a hit, a list, errors and a write have the same exposed fields."""
        await self.open()
        for outcome in ("uri-miss", "revalidated"):
            both = await self.same("/repos/octo/hello")
            assert outcome in both.mirrored_report["fields"]["cache-status"]
            assert both.mirrored_report["fields"]["x-ratelimit-remaining"] == "4999"
        both = await self.same("/repos/octo/hello/issues?per_page=20")
        assert 'rel="last"' in both.mirrored_report["fields"]["link"]
        assert (await self.same("/repos/octo/none")).direct_report["status"] == 404
        assert (await self.same("/user", token="unknown")).direct_report["status"] == 401
        both = await self.same(
            "/repos/octo/hello/labels",
            method="POST",
            headers={"Content-Type": "application/json"},
            body='{"name":"new"}',
        )
        assert both.direct_report["status"] == 201
        sent = [each.method for each in both.mirrored]
        assert sent == ["OPTIONS", "POST"]
        # the mirror responds to preflights itself
        assert [len(side.github.log) for side in (self.sides.direct, self.sides.mirrored)] == [2, 1]

    async def test_stale_response_shows_its_age(self) -> None:
        """While GitHub fails, the page receives the stored response, and can read its age."""
        await self.open()
        await self.same("/repos/octo/hello")
        self.sides.each(lambda github: github.fault(None, "503", login="alice"))
        both = await self.look("/repos/octo/hello")
        assert both.direct_report == UNSEEN
        report = both.mirrored_report
        assert (report["status"], report["data"]["full_name"]) == (200, "octo/hello")
        assert report["fields"]["cache-status"].endswith("detail=server-error")
        assert report["fields"]["x-from-cache"] == "1"
        assert report["fields"]["age"].isdigit()
        assert report["fields"]["x-ratelimit-remaining"] == "4999"
        assert report["fields"]["x-oauth-scopes"] == "repo, user"
        # GitHub's own failure can be read as well, where there is nothing else
        report = (await self.look("/users/octo")).mirrored_report
        assert (report["status"], report["data"]["message"]) == (503, "Server Error")

    async def test_errors_of_the_mirror_are_readable(self) -> None:
        """While GitHub is unreachable, the page can read the reason."""
        await self.open()
        for side in (self.sides.direct, self.sides.mirrored):
            await side.github.go_away()
        both = await self.look("/users/octo")
        assert both.direct_report == UNSEEN
        report = both.mirrored_report
        assert report["status"] == 502
        assert report["data"]["status"] == "502"
        assert report["fields"]["cache-status"] == "ghmirror; detail=connect-error"

    async def test_refused_users_see_the_reason(self) -> None:
        """With `allowed_users` the page can read the refusal of other users."""
        await self.open(allowed_users="alice")
        for _ in range(2):
            await self.same("/repos/octo/hello")
        for token, status, detail in (
            ("the-token-of-bob", 403, "not-allowed"),
            (None, 401, "no-credential"),
        ):
            both = await self.look("/repos/octo/hello", token=token)
            assert both.direct_report["status"] == 200
            report = both.mirrored_report
            assert report["status"] == status
            assert "allowed_users" in report["data"]["message"]
            assert report["fields"]["cache-status"] == f"ghmirror; detail={detail}"
        # GitHub's own word on a credential is GitHub's
        both = await self.same("/repos/octo/hello", token="unknown")
        assert both.direct_report["data"]["message"] == "Bad credentials"
