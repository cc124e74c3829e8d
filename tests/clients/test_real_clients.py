"""Real clients see through the mirror what they see without it."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.clients.go_programs import go_github
from tests.clients.programs import json_output_of, node
from tests.clients.scene import ISSUES, TOKEN, put_issues, scene, seen
from tests.fakes.github import GitHub
from tests.harness.running import start_mirror


class Clients(TestCase):
    """The tests of each client; subclasses have the client."""

    timeout: ClassVar[float] = 120

    github: GitHub

    def command(self, url: str, token: str) -> list[str]:
        raise NotImplementedError

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.github = await scene()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.github.close()))

    async def mirror(self) -> str:
        """Start a mirror, and return its URL."""
        mirror = await start_mirror(self, {"github": {"api_url": self.github.api_url}})
        return mirror.url

    async def output_at(self, url: str, token: str = TOKEN) -> dict[str, Any]:
        """Run the client on all resources."""
        output = await json_output_of(self.command(url, token))
        assert isinstance(output, dict)
        return output

    async def test_expected_output_is_that_of_github(self) -> None:
        """The expected output is the one without the mirror."""
        assert await self.output_at(self.github.api_url) == seen()

    async def test_output_is_the_same_through_the_mirror(self) -> None:
        """The output is the same with an empty and a filled store, for each form of the URL."""
        url = await self.mirror()
        for base in (url, url, f"{url}/api/v3", f"{url}/api/v3"):
            assert await self.output_at(base) == seen()

    async def test_repeated_reads_are_free(self) -> None:
        """A client that reads the same again is not charged."""
        url = await self.mirror()
        await self.output_at(url)
        await self.output_at(url)
        once = ("/user", "/users/octo", "/repos/octo/hello", f"/repos/octo/hello/issues/{ISSUES}")
        paid = {path: self.github.paid["alice", path] for path in once}
        assert paid == dict.fromkeys(once, 1)

    async def test_grown_list_is_read_to_its_end(self) -> None:
        """A list whose last page was full is counted and read to its new end.

        By a new token, since a proof that the list has ended holds for 10 s for a credential.
        """
        url = await self.mirror()
        await self.output_at(url)
        put_issues(self.github, ISSUES + 35)
        self.github.token("another", "alice")
        assert await self.output_at(url, "another") == seen(ISSUES + 35)


class PyGithub(Clients):
    """It counts with per_page=1, follows URLs in bodies and Location, and checks their host."""

    def command(self, url: str, token: str) -> list[str]:
        return [sys.executable, "-m", "tests.clients.pygithub_client", url, token]


class Octokit(Clients):
    """It paginates along Link, and has a 304 for a validator of its own."""

    def command(self, url: str, token: str) -> list[str]:
        return [*node("octokit_client.mjs", "@octokit/rest"), url, token]


class GoGithub(Clients):
    """It adds /api/v3 to its URL, and reads the next page's number from Link."""

    @classmethod
    def setUpClass(cls) -> None:
        """Compile it, which on a slow machine lasts longer than the timeout of a test."""
        super().setUpClass()
        go_github()

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        await super().setUp()
        self.github.alias("/api/v3", "")

    def command(self, url: str, token: str) -> list[str]:
        return [go_github(), url, token]


class Libraries(TestCase):
    """gidgethub and github3.py in one process, which starts faster than two."""

    timeout = 120

    async def test_output_is_the_same_through_the_mirror(self) -> None:
        """With an empty and a filled store; then only the two 404s are paid for."""
        github = await scene()
        self.addCleanup(lambda: Deferred.fromCoroutine(github.close()))
        github.alias("/api/v3", "")
        command = [sys.executable, "-m", "tests.clients.python_clients"]
        expected = await json_output_of([*command, github.api_url, TOKEN])
        assert expected["gidgethub"]["numbers"] == list(range(1, ISSUES + 1))
        assert expected["github3.py"]["missing"] == 404
        mirror = await start_mirror(self, {"github": {"api_url": github.api_url}})
        github.reset_counts()
        paid = []
        for _ in range(2):
            assert await json_output_of([*command, mirror.url, TOKEN]) == expected
            paid.append(github.total_paid)
        assert paid[1] - paid[0] == 2


del Clients  # nothing to run by itself
