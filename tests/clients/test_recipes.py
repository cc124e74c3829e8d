"""The clients of docs/recipes.rst, which cannot be run here: requests as their sources send them
get what those sources read.

Each test names the repository, and the file that makes the requests.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from tests.clients.raw_requests import GO, GO_GITHUB, RawRequests, RawResponse

MIRROR = "http://mirror.test"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOjF9.c2ln"
HUB4J = (
    "Accept: application/vnd.github+json\r\n"
    "Accept-Encoding: gzip\r\n"
    "X-GitHub-Api-Version: 2022-11-28\r\n"
    f"Authorization: Basic {b64encode(b'jenkins:alice-1').decode()}\r\n"
    "User-Agent: okhttp/4.12.0\r\n"
)
KEDA = (
    "User-Agent: Go-http-client/1.1\r\n"
    "Accept: application/vnd.github.v3+json\r\n"
    "X-Github-Api-Version: 2022-11-28\r\n"
    f"Authorization: Bearer alice-1\r\n{GO}"
)
PROW = (
    "User-Agent: prow/unset\r\n"
    "Accept: application/vnd.github.v3+json\r\n"
    "X-GitHub-Api-Version: 2022-11-28\r\n"
    f"Authorization: Bearer alice-1\r\n{GO}"
)
BACKSTAGE = (
    "Accept: application/vnd.github.v3.raw\r\n"
    "Authorization: Bearer alice-1\r\n"
    "User-Agent: node-fetch\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
)
MISE = (
    "authorization: Bearer alice-1\r\n"
    "x-github-api-version: 2022-11-28\r\n"
    "user-agent: mise/2026.8.0\r\n"
    "accept: */*\r\n"
    "accept-encoding: gzip, br, zstd\r\n"
)


def items(count: int) -> list[dict[str, Any]]:
    """Return so many items of a list."""
    return [{"id": number, "name": f"name-{number}"} for number in range(1, count + 1)]


class Recipes(RawRequests):
    """Requests of each client, first with an empty store, then again."""

    async def pages(self, target: str, fields: str) -> list[Any]:
        """Return the items of all pages along `Link`, which leads to the mirror with the prefix."""
        found = []
        while target:
            got = await self.seen(f"GET {target}", fields)
            assert got.status == 200, target
            found += got.json
            assert not got.next or got.next.startswith(f"{MIRROR}/api/v3/")
            target = got.next.removeprefix(MIRROR)
        return found

    async def confirmed(self, target: str, fields: str, *, dates: str = "") -> RawResponse:
        """Return the first response; the second request, with its validators, is not charged."""
        first = await self.seen(f"GET {target}", fields)
        assert first.status == 200, target
        paid = self.github.total_paid
        again = await self.seen(f"GET {target}", f"{fields}If-None-Match: {first.etag}\r\n{dates}")
        assert (again.status, again.content, again.etag) == (304, b"", first.etag)
        assert int(again.fields["x-ratelimit-remaining"]) > 0
        assert "x-ratelimit-reset" in again.fields
        assert self.github.total_paid == paid
        return first

    async def test_argo_cd(self) -> None:
        """argoproj/argo-cd, applicationset/services/scm_provider/github.go and github_cache.go:
        repositories by `Link`, a branch, the existence of a path; its cache sends its own tags.
        """
        self.github.put_list("/orgs/octo/repos", items(150))
        self.github.put("/repos/octo/hello/branches/main", {"name": "main", "commit": {"sha": "1"}})
        target = "/api/v3/orgs/octo/repos?per_page=100"
        assert len(await self.pages(target, GO_GITHUB + GO)) == 150
        paid = self.github.total_paid
        assert len(await self.pages(target, GO_GITHUB + GO)) == 150
        assert self.github.total_paid == paid
        first = await self.confirmed("/api/v3/repos/octo/hello/branches/main", GO_GITHUB + GO)
        # its cache compares the fields that Vary names
        assert "Authorization" in first.fields["vary"]
        path = "/api/v3/repos/octo/hello/contents/kustomization.yaml?ref=main"
        assert (await self.seen(f"GET {path}", GO_GITHUB + GO)).status == 404

    async def test_policy_bot(self) -> None:
        """palantir/policy-bot, palantir/go-githubapp, githubapp/client_creator.go: tokens by POST,
        and gregjones/httpcache, which sends both validators and obeys `Cache-Control`.
        """
        self.github.token(JWT, "octo[bot]")
        tokens = "/app/installations/1/access_tokens"
        self.github.put(tokens, {"token": "ghs_1"}, method="POST", status=201)
        self.github.put(
            "/repos/octo/hello/pulls/1",
            {"number": 1},
            last_modified="Mon, 05 Jan 2026 10:00:00 GMT",
        )
        agent = "User-Agent: policy-bot/1.40.0 (installation: 1)\r\n"
        made = await self.seen(f"POST {tokens}", f"{agent}Authorization: Bearer {JWT}\r\n{GO}")
        assert (made.status, made.json) == (201, {"token": "ghs_1"})
        fields = GO_GITHUB.replace("User-Agent: go-github/v66.0.0\r\n", agent) + GO
        first = await self.confirmed(
            "/repos/octo/hello/pulls/1",
            fields,
            dates="If-Modified-Since: Mon, 05 Jan 2026 10:00:00 GMT\r\n",
        )
        # with GitHub's max-age=60 its cache would return old content for a minute
        assert first.fields["cache-control"] == "private, no-cache"
        assert "date" in first.fields

    async def test_keda(self) -> None:
        """kedacore/keda, pkg/scalers/github_runner_scaler.go: pages by number until one has less
        than 30 items, runs by status, their jobs; with ``enableEtags`` its own tags.
        """
        self.github.put_list("/orgs/octo/repos", items(40))
        runs = "/repos/octo/hello/actions/runs"
        self.github.put_list(runs, items(2), wrap="workflow_runs")
        self.github.put_list(f"{runs}/1/jobs", items(1), wrap="jobs")
        targets = (
            "/orgs/octo/repos?page=1",
            "/orgs/octo/repos?page=2",
            f"{runs}?status=queued&per_page=100",
            f"{runs}?status=in_progress&per_page=100",
            f"{runs}/1/jobs?per_page=100",
        )
        first = [await self.seen(f"GET {target}", KEDA) for target in targets]
        assert [len(got.json) for got in first[:2]] == [30, 10]
        assert [got.json["total_count"] for got in first[2:]] == [2, 2, 1]
        assert self.github.total_paid == len(targets)
        for target in targets:
            await self.confirmed(target, KEDA)
        assert self.github.total_paid == len(targets)
        self.github.fault(None, "primary-limit", login="alice")
        limited = await self.seen("GET /repos/octo/hello/actions/runs/9/jobs", KEDA)
        assert limited.status == 403
        assert limited.fields["x-ratelimit-remaining"] == "0"

    async def test_actions_runner_controller(self) -> None:
        """actions/actions-runner-controller, github/github.go: runners by `Link`, registration
        tokens by POST, which are never stored.
        """
        fields = GO_GITHUB.replace("go-github/v66.0.0", "actions-runner-controller") + GO
        self.github.put_list("/orgs/octo/actions/runners", items(130), wrap="runners")
        target, found = "/orgs/octo/actions/runners?per_page=100", 0
        while target:
            got = await self.seen(f"GET {target}", fields)
            found += len(got.json["runners"])
            target = got.next.removeprefix(MIRROR)
        assert found == 130
        path = "/orgs/octo/actions/runners/registration-token"
        for token in ("A", "B"):
            self.github.put(path, {"token": token}, method="POST", status=201)
            made = await self.seen(f"POST {path}", fields + "Content-Type: application/json\r\n")
            assert (made.status, made.json) == (201, {"token": token})

    async def test_jenkins_and_hub4j(self) -> None:
        """hub4j/github-api, GitHubClient.java and OkHttpGitHubConnector.java, which Jenkins uses:
        the root, `Cache-Control` with ``max-age=0``, redirects to the same host and port.
        """
        fields = f"Cache-Control: max-age=0\r\n{HUB4J}"
        root = await self.seen("GET /api/v3/", fields)
        assert root.json["rate_limit_url"] == f"{MIRROR}/api/v3/rate_limit"
        limit = await self.seen("GET /api/v3/rate_limit", fields)
        assert limit.json["resources"]["core"]["limit"] == 5000
        self.github.repository("octo/hello", {"alice": "admin"})
        first = await self.confirmed("/api/v3/repos/octo/hello", fields)
        # it follows URLs in content, and sends its credential only to the same host and port
        owner = first.json["owner"]["url"].removeprefix(MIRROR)
        assert (await self.seen(f"GET {owner}", fields)).status in {200, 404}
        self.github.repository("octo/old", {"alice": "admin"})
        self.github.rename("/repos/octo/old", "/repositories/3")
        moved = await self.seen("GET /api/v3/repos/octo/old", fields)
        assert moved.status == 301
        assert moved.fields["location"] == f"{MIRROR}/api/v3/repositories/3"
        # a 404 that its own cache may have is requested again with no-cache
        missing = await self.seen(
            "GET /api/v3/repos/octo/no", f"Cache-Control: no-cache\r\n{HUB4J}"
        )
        assert missing.status == 404

    async def test_prow(self) -> None:
        """kubernetes-sigs/prow, pkg/github/client.go: `Link` less its own prefix, and
        `X-Cache-Mode`, for which it returns a token to its throttle.
        """
        self.github.put_list("/repos/octo/hello/issues/1/comments", items(150))
        for prefix in ("", "/api/v3"):
            target, found, modes = "/repos/octo/hello/issues/1/comments?per_page=100", 0, []
            while target:
                got = await self.seen(f"GET {prefix}{target}", PROW)
                found += len(got.json)
                modes.append(got.fields["x-cache-mode"])
                target = got.next.removeprefix(MIRROR).removeprefix(prefix)
            assert found == 150
        assert modes == ["REVALIDATED", "REVALIDATED"]
        scopes = await self.seen("GET /user", PROW)
        assert scopes.fields["x-oauth-scopes"] == "repo, user"

    async def test_backstage(self) -> None:
        """backstage/backstage, GithubUrlReader.ts of backend-defaults: a file with its own tag, the
        commit of a branch, and the archive at the URL of the repository in that response.
        """
        path = "/repos/octo/hello/contents/catalog-info.yaml?ref=main"
        text = {"raw": "kind: Component\n"}
        self.github.put(path, {"content": "a2luZA=="}, variants=text)
        first = await self.confirmed(path, BACKSTAGE)
        assert first.plain == b"kind: Component\n"
        archive = f"{self.github.api_url}/repos/octo/hello/{{archive_format}}{{/ref}}"
        status = {"sha": "1", "repository": {"archive_url": archive}}
        self.github.put("/repos/octo/hello/commits/main/status", status)
        got = await self.seen("GET /repos/octo/hello/commits/main/status?per_page=0", BACKSTAGE)
        url = got.json["repository"]["archive_url"]
        assert url == f"{MIRROR}/repos/octo/hello/{{archive_format}}{{/ref}}"
        there = "https://codeload.github.com/octo/hello/legacy.tar.gz/1?token=signed"
        self.github.redirect("/repos/octo/hello/tarball/1", there)
        moved = await self.seen("GET /repos/octo/hello/tarball/1", BACKSTAGE)
        assert (moved.status, moved.fields["location"]) == (302, there)

    async def test_mise(self) -> None:
        """jdx/mise, src/github.rs: releases by `Link`; it sends its token only below /api/v3. An
        asset is a redirect to another host.
        """
        self.github.put_list("/repos/octo/hello/releases", items(120))
        target = "/api/v3/repos/octo/hello/releases?per_page=100"
        assert len(await self.pages(target, MISE)) == 120
        there = "https://objects.githubusercontent.com/asset?signature=1"
        self.github.redirect("/repos/octo/hello/releases/assets/7", there)
        fields = MISE.replace("accept: */*", "accept: application/octet-stream")
        moved = await self.seen("GET /api/v3/repos/octo/hello/releases/assets/7", fields)
        assert (moved.status, moved.fields["location"]) == (302, there)

    async def test_aqua_without_a_setting(self) -> None:
        """aquaproj/aqua, pkg/github/github.go, has no setting: requests for GitHub's own host, to
        which its name leads, get GitHub's own URLs.
        """
        self.github.put_list("/repos/octo/hello/releases", items(120))
        host = self.github.api_url.removeprefix("http://")
        fields = GO_GITHUB + GO
        for _ in range(2):
            got = await self.seen("GET /repos/octo/hello/releases?per_page=100", fields, host=host)
            assert got.next.startswith(self.github.api_url)
        assert got.fields["x-cache"] == "HIT"


del RawRequests  # nothing to run by itself
