"""A real Probot app works through the mirror, as safe-settings and other apps of that kind do."""

from __future__ import annotations

import base64
from typing import Any, ClassVar

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.clients.programs import json_output_of, node
from tests.clients.scene import put_issues
from tests.fakes.github import GitHub
from tests.harness.running import start_mirror

TOKENS = "/app/installations/1/access_tokens"
COMMENTS = "/repos/octo/hello/issues/1/comments"
CONFIG = "/repos/octo/hello/contents/.github%2Fhello.yml"
ISSUES = 50
REPORT = {
    "config": {"greeting": "Hello"},
    "repository": "octo/hello",
    "numbers": list(range(1, ISSUES + 1)),
    "comment": 7,
}


class Probot(TestCase):
    """It is configured by ``GHE_HOST`` alone, and gets its tokens as a GitHub App."""

    timeout: ClassVar[float] = 300

    github: GitHub
    key: str

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.github = GitHub()
        await self.github.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.github.close()))
        self.github.alias("/api/v3", "")
        self.github.user("octo[bot]", tokens=["ghs_1", "ghs_2"])
        self.github.app("octo[bot]")
        self.github.repository("octo/hello", {"octo[bot]": "push"})
        put_issues(self.github, ISSUES)
        content = {"content": base64.b64encode(b"greeting: Hello\n").decode()}
        self.github.put(CONFIG, content, variants={"raw": "greeting: Hello\n"})
        self.put_written(COMMENTS, {"id": 7})
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.key = pem.decode()

    def put_written(self, path: str, content: Any) -> None:
        """Set the response to a POST, with the prefix that Probot adds, and without."""
        for prefix in ("", "/api/v3"):
            self.github.put(prefix + path, content, method="POST", status=201)

    async def report(self, url: str, token: str) -> Any:
        """Run the app with *token* for its installation, and return what it saw."""
        response = {
            "token": token,
            "expires_at": "2099-01-01T00:00:00Z",
            "permissions": {"issues": "write"},
            "repository_selection": "all",
        }
        self.put_written(TOKENS, response)
        return await json_output_of(
            node("probot_client.mjs", "probot"),
            {
                "GHE_HOST": url.removeprefix("http://"),
                "GHE_PROTOCOL": "http",
                "APP_ID": "1",
                "PRIVATE_KEY": self.key,
                "NODE_ENV": "production",
            },
        )

    async def test_event_through_the_mirror(self) -> None:
        """An event is processed as without the mirror; with another token, reads are free."""
        assert await self.report(self.github.api_url, "ghs_1") == REPORT
        options = {"github": {"api_url": self.github.api_url}}
        url = (await start_mirror(self, options)).url
        self.github.paid.clear()
        assert await self.report(url, "ghs_1") == REPORT
        reads = {path: count for (_, path), count in self.github.paid.items()}
        assert await self.report(url, "ghs_2") == REPORT
        again = {path: count for (_, path), count in self.github.paid.items()}
        written = {TOKENS, COMMENTS}
        assert written <= again.keys()
        read = again.keys() - written
        assert {path: again[path] for path in read} == {path: reads[path] for path in read}
