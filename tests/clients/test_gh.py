"""The real gh accepts the mirror as a GitHub Enterprise Server, by TLS and over a UNIX socket."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.clients.gh_scene import ASSETS, TOKEN, scene
from tests.fakes.github import GitHub
from tests.harness.certificates import Authority
from tests.harness.running import environment, start_mirror

VERSION = "3.17.0"


class Gh(TestCase):
    """The tests of both ways; subclasses have the way to the mirror."""

    timeout: ClassVar[float] = 120

    github: GitHub
    folder: Path
    host: str
    more: dict[str, str]

    async def reach(self) -> None:
        raise NotImplementedError

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.github = await scene()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.github.close()))
        self.folder = Path(mkdtemp(prefix="gh-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.more = {}
        await self.reach()

    async def mirror(self, listen: str) -> str:
        """Start a mirror; return where it listens."""
        options = {
            "server": {"listen": listen, "enterprise_version": VERSION},
            "github": {"api_url": self.github.api_url},
        }
        return (await start_mirror(self, options)).url

    async def output(self, *arguments: str) -> str:
        """Run gh to its end and return what it prints; it must end well."""
        program = shutil.which("gh")
        assert program is not None, "gh is not installed; try `make test`"
        env = environment(
            {
                "GH_HOST": self.host,
                "GH_ENTERPRISE_TOKEN": TOKEN,
                "GH_CONFIG_DIR": str(self.folder / "config"),
                "GH_NO_UPDATE_NOTIFIER": "1",
                "HOME": str(self.folder),
                **self.more,
            }
        )
        running = getProcessOutputAndValue(program, arguments, env=env, path=str(self.folder))
        out, err, status = await cast("Deferred[tuple[bytes, bytes, int]]", running)
        assert status == 0, f"gh {arguments}: {status}:\n{(out + err).decode(errors='replace')}"
        return (out + err).decode()

    async def json_output(self, *arguments: str) -> Any:
        return json.loads(await self.output(*arguments))

    async def test_gh_api(self) -> None:
        """`gh api` receives GitHub's content, charged once, and the version."""
        for _ in range(2):
            assert (await self.json_output("api", "user"))["login"] == "alice"
        assert self.github.paid["alice", "/api/v3/user"] == 1
        assert (await self.json_output("api", "meta"))["installed_version"] == VERSION
        shown = await self.output("api", "--include", "meta")
        assert f"X-Github-Enterprise-Version: {VERSION}" in shown
        paged = await self.output("api", "--paginate", "repos/octo/hello/tags", "--jq", ".[].name")
        assert paged.split() == [f"v{number}" for number in range(1, 36)]

    async def test_gh_auth_status(self) -> None:
        """`gh auth status` accepts the token and its scopes."""
        assert f"Logged in to {self.host} as alice" in await self.output("auth", "status")

    async def test_gh_repo_view(self) -> None:
        """`gh repo view` uses GraphQL."""
        seen = await self.json_output("repo", "view", "octo/hello", "--json", "name,owner")
        assert seen == {"name": "hello", "owner": {"id": "2", "login": "octo"}}
        assert "A repository" in await self.output("repo", "view", "octo/hello")

    async def test_gh_issue_list_and_pr_list(self) -> None:
        """`gh issue list` first queries the features of the server; `gh pr list` does not."""
        lines = (await self.output("issue", "list", "-R", "octo/hello")).splitlines()
        assert [line.split("\t")[:3] for line in lines] == [
            ["2", "OPEN", "Issue 2"],
            ["1", "OPEN", "Issue 1"],
        ]
        (line,) = (await self.output("pr", "list", "-R", "octo/hello")).splitlines()
        assert line.split("\t")[:3] == ["3", "Pull request 3", "branch-3"]
        assert self.github.exchanges("/api/graphql")

    async def test_gh_release_upload(self) -> None:
        """`gh release upload` sends an asset through the mirror to the URL in the release."""
        path = self.folder / "asset.zip"
        path.write_bytes(b"PK" + bytes(200_000))
        await self.output("release", "upload", "v1", str(path), "-R", "octo/hello")
        (sent,) = self.github.exchanges(ASSETS)
        assert sent.target == f"{ASSETS}?label=&name=asset.zip".encode()
        assert (sent.login, sent.field(b"content-type")) == ("alice", b"application/zip")
        assert sent.field(b"content-length") == b"200002"
        assert sent.field(b"via") is not None


class OverTls(Gh):
    """Where clients expect a server: at https:, with a certificate that they can verify."""

    async def reach(self) -> None:
        paths = Authority.new().issue(self.folder)
        self.more = {"SSL_CERT_FILE": str(paths["authority"])}
        key, certificate = paths["key"], paths["certificate"]
        listen = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
        url = await self.mirror(listen)
        self.host = f"localhost:{url.rpartition(':')[2]}"


class OverASocket(Gh):
    """On the same machine: without TLS, under any name."""

    async def reach(self) -> None:
        path = self.folder / "mirror.sock"
        await self.mirror(f"unix:{path}")
        self.host = "mirror.test"
        await self.output("config", "set", "http_unix_socket", str(path))


del Gh  # nothing to run by itself
