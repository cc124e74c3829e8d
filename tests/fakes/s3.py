"""S3 on a real socket: moto's server in a process of its own, and faults on the way to it.

In a test on the reactor::

    class Thing(TestCase):
        async def test_it(self) -> None:
            bucket = await open_bucket(self)
            target = bucket.target(workers)
            bucket.way.fault(lambda sent: sent.method == "PUT", refuse(503, "SlowDown"))

The fixture `s3_server` starts one server for a whole test process; every test has a bucket of its
own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

from attrs import define, field, frozen
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from ghmirror_tw.snapshots.aws_service import AwsAccess, AwsService
from ghmirror_tw.snapshots.blocking_threads import BlockingThreads
from ghmirror_tw.snapshots.s3_target import S3Target
from tests.fakes.closing_site import ClosingSite
from tests.harness.home import Received, fetch

reactor: Any = global_reactor

KEY_ID: Final = "AKIAEXAMPLEEXAMPLE00"
SECRET: Final = "secret+of/tests0000000000000000000000000"

#: The environment of boto3, without credentials or metadata services of the machine.
ENVIRONMENT: Final = {
    "AWS_ACCESS_KEY_ID": KEY_ID,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}

#: S3's own smallest part.
PART_BYTES: Final = 5 * 1024 * 1024

_NOT_PASSED: Final = {
    b"host",
    b"connection",
    b"expect",
    b"content-length",
    b"transfer-encoding",
    b"user-agent",
}
_SCOPE: Final = "20261125/us-east-1/s3/aws4_request"
_running: list[int] = []


@contextmanager
def serving() -> Iterator[int]:
    """Run moto's server, and yield its port; `open_bucket` needs it."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        env={**environment, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    output = process.stderr
    reading = threading.Thread(target=lambda: deque(output, 0), daemon=True)
    try:
        _running.append(_port_in(output))
        reading.start()
        yield _running[0]
    finally:
        _running.clear()
        process.kill()
        process.wait()
        if reading.is_alive():
            reading.join()
        output.close()


def _port_in(output: Iterable[str]) -> int:
    lines = []
    for line in output:
        lines.append(line)
        found = re.search(r"Running on http://127\.0\.0\.1:(\d+)", line)
        if found:
            return int(found[1])
    raise RuntimeError("moto does not start:\n" + "".join(lines))


@frozen
class S3Request:
    """A request that was forwarded."""

    method: str
    target: str
    fields: dict[str, str]
    size: int

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def path(self) -> str:
        return urlsplit(self.target).path


Matches = Callable[[S3Request], bool]


@frozen
class Fault:
    """A fault instead of forwarding a request: a response, or the end of the connection.

    *after_bytes*: the connection ends when so much content was received. *lose_response*: it ends
    when the server has executed the request.
    """

    status: int = 0
    code: str = ""
    message: str = "An error of the test"
    after_bytes: int | None = None
    lose_response: bool = False
    truncate_response: bool = False
    hold: Deferred[None] | None = None

    @property
    def body(self) -> bytes:
        text = f"<Code>{self.code}</Code><Message>{self.message}</Message>"
        return f'<?xml version="1.0"?><Error>{text}</Error>'.encode()


@define(eq=False)
class Way:
    """The proxy before the server, and its faults."""

    server: int
    port: int = 0
    requests: list[S3Request] = field(factory=list)
    faults: list[tuple[Matches, Fault, list[int]]] = field(factory=list)
    arrivals: list[tuple[Matches, Deferred[S3Request]]] = field(factory=list)

    def fault(self, matches: Matches, fault: Fault, times: int = 1_000) -> None:
        """Inject a fault into the next *times* matching requests."""
        self.faults.append((matches, fault, [times]))

    def arrival(self, matches: Matches) -> Deferred[S3Request]:
        """Return the next matching request, when it is complete."""
        waiting: Deferred[S3Request] = Deferred()
        self.arrivals.append((matches, waiting))
        return waiting

    def happens(self, received: S3Request, *, middle: bool) -> Fault | None:
        for matches, fault, left in self.faults:
            if left[0] and middle == (fault.after_bytes is not None) and matches(received):
                left[0] -= 1
                return fault
        return None

    def arrived(self, received: S3Request) -> None:
        self.requests.append(received)
        for each in [each for each in self.arrivals if each[0](received)]:
            self.arrivals.remove(each)
            each[1].callback(received)


class _Passing(Request):
    """A request that may end in its middle."""

    doomed: Fault | None = None
    come = 0

    def gotLength(self, length: int | None) -> None:
        channel: Any = self.channel
        way: Way = channel.site.way
        received = S3Request(channel._command.decode(), channel._path.decode(), {}, length or 0)
        self.doomed = way.happens(received, middle=True)
        super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        channel: Any = self.channel
        self.come += len(data)
        if self.doomed is not None and self.come >= (self.doomed.after_bytes or 0):
            channel.transport.abortConnection()
        super().handleContentChunk(data)


class _PassOn(Resource):
    isLeaf = True

    def __init__(self, way: Way) -> None:
        super().__init__()
        self.way = way

    def render(self, request: Any) -> int:
        gone: list[bool] = []
        request.notifyFinish().addErrback(lambda _: gone.append(True))
        Deferred.fromCoroutine(self._respond(request, gone)).addErrback(
            lambda reason: None if gone else reason
        )
        return NOT_DONE_YET

    async def _respond(self, request: Any, gone: list[bool]) -> None:
        content = request.content.read()
        fields = {
            name.decode().lower(): values[0].decode()
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        received = S3Request(request.method.decode(), request.uri.decode(), fields, len(content))
        fault = self.way.happens(received, middle=False)
        self.way.arrived(received)
        if fault is not None and fault.hold is not None:
            await fault.hold
        if fault is not None and fault.status:
            request.setResponseCode(fault.status)
            request.setHeader("content-type", "application/xml")
            self._send(request, fault.body, gone)
            return
        got = await self._passed(request, content)
        if fault is not None and fault.lose_response:
            request.channel.transport.abortConnection()
            return
        request.setResponseCode(got.status)
        for name, values in got.fields.getAllRawHeaders():
            if name.lower() not in _NOT_PASSED:
                request.responseHeaders.setRawHeaders(name, values)
        request.setHeader("content-length", str(self._length(request, got)))
        if fault is not None and fault.truncate_response:
            request.write(got.content[: len(got.content) // 2])
            transport = request.channel.transport
            transport.unregisterProducer()
            transport.loseConnection()
            return
        self._send(request, got.content, gone)

    @staticmethod
    def _length(request: Any, got: Received) -> int:
        if request.method == b"HEAD":
            return int(got.field("content-length") or 0)
        return len(got.content)

    async def _passed(self, request: Any, content: bytes) -> Received:
        headers = {
            name.decode(): [value.decode() for value in values]
            for name, values in request.requestHeaders.getAllRawHeaders()
            if name.lower() not in _NOT_PASSED
        }
        return await fetch(
            request.method.decode(),
            self.way.server,
            request.uri.decode(),
            headers=headers,
            body=content or None,
        )

    def _send(self, request: Any, content: bytes, gone: list[bool]) -> None:
        if not gone:
            request.write(content)
            request.finish()


class _Gate(ClosingSite):
    """The site of one test, with its faults."""

    def __init__(self, way: Way) -> None:
        super().__init__(_PassOn(way), requestFactory=_Passing, reactor=reactor)
        self.way = way


@define(eq=False)
class Bucket:
    """A bucket of one test, and the way to it."""

    name: str
    way: Way

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.way.port}"

    def access(self, **more: Any) -> AwsAccess:
        return AwsAccess(**{"region": "us-east-1", "endpoint_url": self.url, "attempts": 2, **more})

    def target(self, workers: BlockingThreads, prefix: str = "", **more: Any) -> S3Target:
        name = more.pop("bucket", self.name)
        access = more.pop("access", None) or self.access()
        return S3Target(
            workers, AwsService(access, "s3"), name, prefix, part_bytes=PART_BYTES, **more
        )

    async def send(self, method: str, target: str = "", body: bytes | None = None) -> Received:
        """Send a request to the server directly, without faults."""
        return await fetch(
            method,
            self.way.server,
            f"/{self.name}{target}",
            headers={"Authorization": f"AWS4-HMAC-SHA256 Credential={KEY_ID}/{_SCOPE}"},
            body=body,
        )

    async def _keys(self, target: str, entry: str) -> list[str]:
        got = await self.send("GET", target)
        assert got.status == 200, got.plain
        root = ET.fromstring(got.plain)
        name = root.tag.partition("}")[0] + "}"
        return [found.findtext(f"{name}Key") or "" for found in root.iter(f"{name}{entry}")]

    async def begun_at(self) -> float:
        """Return the server's time of the first unfinished upload."""
        found = re.search(rb"<Initiated>(.+?)</", (await self.send("GET", "?uploads")).plain)
        assert found is not None
        return datetime.fromisoformat(found[1].decode()).timestamp()

    async def keys(self) -> list[str]:
        """Return the names of the objects in the bucket."""
        return await self._keys("?list-type=2", "Contents")

    async def uploads(self) -> list[str]:
        """Return the keys of uploads that have neither been completed nor aborted."""
        return await self._keys("?uploads", "Upload")


async def open_bucket(test: TestCase) -> Bucket:
    """Make a bucket, and a way to it that ends with the test."""
    for name, value in ENVIRONMENT.items():
        test.patch(os, "environ", {**os.environ, name: value})
    way = Way(_running[0])
    barrier = _Gate(way)
    port = reactor.listenTCP(0, barrier, interface="127.0.0.1")
    way.port = port.getHost().port
    test.addCleanup(port.stopListening)
    test.addCleanup(barrier.close)
    made = Bucket(f"b-{uuid.uuid4().hex}", way)
    got = await made.send("PUT")
    assert got.status == 200, got.plain
    return made
