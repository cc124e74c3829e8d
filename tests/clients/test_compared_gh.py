"""gh accepts the mirror of an Enterprise server as that server, except for the listed cases."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import ClassVar

from twisted.trial.unittest import TestCase

from tests.clients.compare import Side, sides_of
from tests.clients.gh_scene import PREFIX, TOKEN, furnish
from tests.clients.programs import output_of
from tests.fakes.github import GitHub

COMMANDS = (
    "api user",
    "api --paginate repos/octo/hello/tags --jq .[].name",
    "api repos/octo/hello/releases/1",
    "auth status",
    "repo view octo/hello --json name,owner",
    "issue list -R octo/hello",
    "pr list -R octo/hello",
    "release upload v1 asset.zip -R octo/hello",
)


def furnish_server(github: GitHub) -> None:
    """Set the fields that gh expects of a server: its version, and its status."""
    furnish(github)
    github.status_field = True
    github.put("/meta", {"verifiable_password_authentication": True, "installed_version": "3.17.0"})


class Gh(TestCase):
    """By TLS, with a certificate that gh verifies."""

    timeout: ClassVar[float] = 120

    async def test_commands_print_the_same(self) -> None:
        """Each command prints the same, the first time and again."""
        folder = Path(mkdtemp(prefix="gh-"))
        self.addCleanup(shutil.rmtree, folder)
        (folder / "asset.zip").write_bytes(b"PK" + bytes(200_000))
        sides = await sides_of(self, furnish_server, prefix=PREFIX, folder=folder)
        shell = ["/bin/sh", "-c", 'exec "$0" "$@" 2>&1']
        program = shutil.which("gh")
        assert program is not None, "gh is not installed; try `make test`"

        async def client(side: Side) -> dict[str, str]:
            more = {
                "GH_HOST": side.url.partition("//")[2],
                "GH_ENTERPRISE_TOKEN": TOKEN,
                "GH_CONFIG_DIR": str(folder / f"config-{side.is_direct}"),
                "GH_NO_UPDATE_NOTIFIER": "1",
                "HOME": str(folder),
                "SSL_CERT_FILE": str(folder / "authority.pem"),
            }
            return {
                command: await output_of([*shell, program, *command.split()], more, folder=folder)
                for command in COMMANDS
            }

        # what the version is, gh knows the second time; GraphQL and the upload have no validators
        # The stand-in counts the check of the credential, too, which Enterprise servers have no
        # rate limit for.
        for paid in ((12, 13), (11, 6)):
            both = await sides.run(client)
            assert both.unexplained() == []
            assert "Logged in to <HOST> as alice" in both.report["auth status"]
            assert (
                both.report["api --paginate repos/octo/hello/tags --jq .[].name"].count("v") == 35
            )
            assert both.paid == paid
