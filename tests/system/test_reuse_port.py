"""Several mirrors on one port, each a process of its own."""

from __future__ import annotations

import shutil
import socket
import ssl
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.harness.certificates import Authority
from tests.harness.running import STOPPED, Mirror, Sections, start_mirror


def send(port: int, path: str, authority: Authority | None = None) -> int:
    """GET over a connection of its own; return the status."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
        connection: socket.socket = plain
        if authority is not None:
            context = ssl.create_default_context(cadata=authority.pem)
            connection = context.wrap_socket(plain, server_hostname="localhost")
        with connection:
            head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode())
            return int(connection.makefile("rb").readline().split()[1])


def sharing(listen: str) -> Sections:
    """Return the options of one process of several; each request is in its log."""
    return {"server": {"listen": listen, "reuse_port": True}}


class Several(TestCase):
    """`[server] reuse_port`."""

    async def both_respond(self, port: int, mirrors: list[Mirror], *more: Authority) -> None:
        """Return when each of the mirrors has been sent a request by the kernel."""
        sent = 0
        while not all("/for-any" in mirror.log_text for mirror in mirrors):
            await deferToThread(send, port, "/for-any", *more)
            sent += 1
            assert sent < 1000, "one of them never gets a request"

    async def test_two_processes_share_a_port(self) -> None:
        """Both receive requests; when one stops, the other receives all of them."""
        first = await start_mirror(self, sharing("tcp:0:interface=127.0.0.1"))
        port = int(first.url.rpartition(":")[2])
        second = await start_mirror(self, sharing(f"tcp:{port}:interface=127.0.0.1"))
        await self.both_respond(port, [first, second])
        assert await first.stop() == STOPPED
        for _ in range(20):
            assert await deferToThread(send, port, "/readyz") == 200

    async def test_two_processes_share_a_port_with_tls(self) -> None:
        """With TLS each of the two makes its own handshakes."""
        authority = Authority.new()
        folder = Path(tempfile.mkdtemp(prefix="ghmirror-"))
        self.addCleanup(shutil.rmtree, folder)
        files = authority.issue(folder)
        tls = f"privateKey={files['key']}:certKey={files['certificate']}:interface=127.0.0.1"
        first = await start_mirror(self, sharing(f"ssl:0:{tls}"))
        port = int(first.url.rpartition(":")[2])
        second = await start_mirror(self, sharing(f"ssl:{port}:{tls}"))
        await self.both_respond(port, [first, second], authority)

    async def test_port_is_not_shared_without_the_option(self) -> None:
        """A process without the option reports that the port is in use."""
        first = await start_mirror(self, sharing("tcp:0:interface=127.0.0.1"))
        port = int(first.url.rpartition(":")[2])
        listen = f"tcp:{port}:interface=127.0.0.1"
        other = Mirror({"server": {"listen": listen}})
        self.addCleanup(lambda: Deferred.fromCoroutine(other.kill()))
        assert await other.ended() == 1
        assert f"Not listening on {listen}" in other.log_text

    async def test_admin_port_is_not_shared(self) -> None:
        """A shared admin port would show the metrics of either process by chance."""
        first = await start_mirror(self, sharing("tcp:0:interface=127.0.0.1"))
        admin = f"tcp:{first.admin_url.rpartition(':')[2]}:interface=127.0.0.1"
        sections = sharing("tcp:0:interface=127.0.0.1")
        other = Mirror({"server": {**sections["server"], "admin_listen": admin}})
        self.addCleanup(lambda: Deferred.fromCoroutine(other.kill()))
        assert await other.ended() == 1
        assert f"Not admin listening on {admin}" in other.log_text
