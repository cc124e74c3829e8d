"""Snapshots in S3: whole or not at all, in bounded memory, and every trouble is explained."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from ghmirror_tw.snapshots.aws_service import AwsService
from ghmirror_tw.snapshots.blocking_threads import BlockingThreads
from ghmirror_tw.snapshots.s3_target import FETCHED_BYTES, S3Target
from ghmirror_tw.snapshots.snapshot_errors import NoSuchSnapshotError, TargetError
from ghmirror_tw.snapshots.snapshot_names import SnapshotName
from ghmirror_tw.snapshots.target_interface import CHUNK_BYTES, LEFTOVER_S, ITarget
from tests.fakes.s3 import KEY_ID, PART_BYTES, SECRET, Bucket, Fault, S3Request, open_bucket
from tests.harness.running import ROOT

reactor: Any = global_reactor

NAME = SnapshotName("replica-1", 1_795_598_400_123)
SMALL = os.urandom(1000)
LARGE = os.urandom(2 * PART_BYTES + 12_345)
CHUNK = CHUNK_BYTES


async def chunks(content: bytes, size: int = CHUNK) -> AsyncGenerator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def content_of(target: Any, name: SnapshotName = NAME) -> bytes:
    async with aclosing(target.read(name)) as read:
        return b"".join([chunk async for chunk in read])


def puts(received: S3Request) -> bool:
    return received.method == "PUT"


def second_part(received: S3Request) -> bool:
    return received.query.get("partNumber") == ["2"]


def completes(received: S3Request) -> bool:
    return received.method == "POST" and "uploadId" in received.query


def begins(received: S3Request) -> bool:
    return received.method == "POST" and "uploads" in received.query


def fetches(received: S3Request) -> bool:
    return received.method == "GET" and "range" in received.fields


class WithBucket(TestCase):
    """A bucket, and threads."""

    async def opened(self, prefix: str = "", **more: Any) -> tuple[Bucket, S3Target]:
        bucket = await open_bucket(self)
        threads = BlockingThreads(reactor)
        threads.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(threads.close()))
        target = bucket.target(threads, prefix, **more)
        self.addCleanup(target.service.close)
        return bucket, target

    async def fails(self, coroutine: Any) -> str:
        """Return the message of the failure, and check that it has no secrets."""
        try:
            await coroutine
        except TargetError as error:
            output = str(error)
            assert KEY_ID not in output
            assert SECRET not in output
            return output
        raise AssertionError("it did not fail")

    async def nothing_is_left(self, bucket: Bucket) -> None:
        assert await bucket.uploads() == []
        assert await bucket.keys() == []


@pytest.mark.usefixtures("s3_server")
class Keeping(WithBucket):
    """The operations of a target."""

    async def test_order_is_by_the_time_of_the_object(self) -> None:
        """The time in the name is by the clock of the replica that made it."""
        _, target = await self.opened()
        names = (SnapshotName("a", 9_000_000), SnapshotName("a", 5))
        times = [datetime.fromtimestamp(at, UTC) for at in (1, 2)]
        objects = [
            {"Key": name.text, "Size": 1, "LastModified": at}
            for name, at in zip(names, times, strict=True)
        ]
        self.patch(S3Target, "_pages", lambda *_: iter(objects))
        listed = await target.listing()
        assert [(each.name, each.written_at) for each in listed] == [
            (names[1], 2.0),
            (names[0], 1.0),
        ]

    async def test_target_provides_the_interface(self) -> None:
        """It does all that a target does, and is called without secrets."""
        _, target = await self.opened("a/b")
        assert verifyObject(ITarget, target)
        assert target.where == f"s3://{target.bucket}/a/b"

    async def test_written_snapshot_is_stored(self) -> None:
        """A small one at once, a large one in parts, one of exactly a part, and one of nothing."""
        bucket, target = await self.opened("some/prefix")
        exact = LARGE[:PART_BYTES]
        for at, content in enumerate((SMALL, LARGE, exact, b"")):
            name = SnapshotName("o", at)
            assert await target.write(name, chunks(content, 100_000)) == len(content)
            assert await content_of(target, name) == content
        stored = await target.listing()
        assert [each.size_bytes for each in stored] == [0, len(exact), len(LARGE), len(SMALL)]
        assert [each.name.at_ms for each in stored] == [3, 2, 1, 0]
        assert await bucket.keys() == [
            f"some/prefix/{SnapshotName('o', at).text}" for at in range(4)
        ]
        parts = [each for each in bucket.way.requests if "partNumber" in each.query]
        assert [each.size for each in parts] == [PART_BYTES, PART_BYTES, 12_345]

    async def test_content_is_read_in_small_chunks(self) -> None:
        """No chunk is larger than is promised."""
        _, target = await self.opened()
        await target.write(NAME, chunks(LARGE))
        async with aclosing(target.read(NAME)) as read:
            assert all([0 < len(chunk) <= CHUNK_BYTES async for chunk in read])

    async def test_other_files_are_not_changed(self) -> None:
        """Other objects, other prefixes, names that are almost ours: neither listed nor deleted."""
        bucket, target = await self.opened("p")
        others = [
            "/p/readme.txt",
            f"/p/x{NAME.text}",
            f"/p/{NAME.text}.bak",
            f"/p/ghmirror-sub/{NAME.text}",
            f"/pp/{NAME.text}",
            f"/{NAME.text}",
            "/p/ghmirror-o-20261325T093000.123Z.snap",
        ]
        for key in others:
            assert (await bucket.send("PUT", key, b"x")).status == 200
        assert await target.listing() == ()
        await target.write(NAME, chunks(SMALL))
        assert [each.name for each in await target.listing()] == [NAME]
        await target.delete(NAME)
        await target.delete(NAME)
        assert await bucket.keys() == sorted(key[1:] for key in others)

    async def test_more_than_a_page_is_listed(self) -> None:
        """S3 lists a thousand at once."""
        bucket, target = await self.opened()
        for at in range(1001):
            got = await bucket.send("PUT", "/" + SnapshotName("o", at).text, b"")
            assert got.status == 200
        assert [each.name.at_ms for each in await target.listing()] == list(range(1000, -1, -1))

    async def test_encryption_options_are_sent(self) -> None:
        """S3 receives them for small objects and for parts, and only if they are set."""
        for sse, key in (("AES256", ""), ("aws:kms", "alias/k"), ("aws:kms", ""), ("", "")):
            bucket, target = await self.opened(sse=sse, kms_key_id=key)
            for content in (SMALL, LARGE):
                await target.write(NAME, chunks(content))
            (put,) = [
                each
                for each in bucket.way.requests
                if puts(each) and "partNumber" not in each.query
            ]
            (begun,) = filter(begins, bucket.way.requests)
            for received in (put, begun):
                assert received.fields.get("x-amz-server-side-encryption", "") == sse
                assert received.fields.get("x-amz-server-side-encryption-aws-kms-key-id", "") == key

    async def test_boto3_is_called_only_in_threads(self) -> None:
        """Not on the reactor, and not in its pool, which resolves names."""
        _, target = await self.opened()
        seen = set()
        real: Any = vars(type(target.service))["client"].fget

        def client(service: Any) -> Any:
            seen.add(threading.current_thread().name)
            return real(service)

        self.patch(type(target.service), "client", property(client))
        await target.write(NAME, chunks(LARGE))
        await content_of(target)
        await target.listing()
        await target.clean()
        await target.delete(NAME)
        assert len(seen) in {1, 2}
        assert all("snapshots" in name for name in seen)

    async def test_writing_and_reading_need_little_memory(self) -> None:
        """A few parts, at any size."""
        _, target = await self.opened()
        chunk = os.urandom(CHUNK)

        async def many() -> AsyncGenerator[bytes]:
            for _ in range(160):
                yield chunk

        await target.write(NAME, chunks(SMALL))  # boto3 has been imported with that
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        assert await target.write(NAME, many()) == 160 * CHUNK
        read = 0
        async with aclosing(target.read(NAME)) as pieces:
            async for piece in pieces:
                read += len(piece)
        assert read == 160 * CHUNK
        # the proxy of these tests, in the same process, holds parts, too
        assert tracemalloc.get_traced_memory()[1] < 7 * PART_BYTES


@pytest.mark.usefixtures("s3_server")
class Trouble(WithBucket):
    """Faults, and the objects left after them."""

    async def test_throttled_request_is_retried(self) -> None:
        """503 SlowDown once, in a part and in a small object: without any effect."""
        bucket, target = await self.opened()
        for content in (SMALL, LARGE):
            bucket.way.fault(puts, Fault(503, "SlowDown"), 1)
            await target.write(NAME, chunks(content))
            assert await content_of(target) == content
        assert await bucket.uploads() == []

    async def test_service_that_always_throttles(self) -> None:
        """503 SlowDown repeatedly: the message names it, and nothing is left."""
        bucket, target = await self.opened()
        bucket.way.fault(second_part, Fault(503, "SlowDown"))
        output = await self.fails(target.write(NAME, chunks(LARGE)))
        assert output == f"s3://{bucket.name}: writing: the service throttles requests (SlowDown)"
        await self.nothing_is_left(bucket)

    async def test_interrupted_upload_of_a_part_is_retried(self) -> None:
        """The part is sent again, as a whole."""
        bucket, target = await self.opened()
        bucket.way.fault(second_part, Fault(after_bytes=1_000_000), 1)
        await target.write(NAME, chunks(LARGE))
        assert await content_of(target) == LARGE

    async def test_upload_of_a_part_that_is_always_interrupted(self) -> None:
        """Each time: the message names it, and nothing is left."""
        bucket, target = await self.opened()
        bucket.way.fault(second_part, Fault(after_bytes=1_000_000))
        output = await self.fails(target.write(NAME, chunks(LARGE)))
        assert "writing: the connection" in output
        await self.nothing_is_left(bucket)

    async def test_each_fault_is_explained(self) -> None:
        """The error of S3 is described in the mirror's words, at each step; nothing is left."""
        faults = {
            (403, "AccessDenied"): "access is denied to the credentials in use",
            (403, "InvalidAccessKeyId"): "the credentials in use are not valid",
            (403, "SignatureDoesNotMatch"): "the credentials in use are not valid",
            (403, "RequestTimeTooSkewed"): "the clock of this machine is wrong",
            (404, "NoSuchBucket"): "there is no such bucket",
            (400, "Unheard.Of"): "Unheard.Of",
        }
        bucket, target = await self.opened()
        for step in (begins, second_part, completes, puts):
            for (status, code), meaning in faults.items():
                bucket.way.faults.clear()
                bucket.way.fault(step, Fault(status, code, f"{KEY_ID} {SECRET}"))
                output = await self.fails(target.write(NAME, chunks(LARGE)))
                assert meaning in output
                assert code in output
                await self.nothing_is_left(bucket)

    async def test_missing_bucket(self) -> None:
        """As a real server reports it, for each operation."""
        bucket, target = await self.opened(bucket="nowhere-at-all")
        for coroutine in (
            target.listing(),
            target.write(NAME, chunks(SMALL)),
            target.write(NAME, chunks(LARGE)),
            target.clean(),
        ):
            assert "there is no such bucket (NoSuchBucket)" in await self.fails(coroutine)
        assert bucket.way.requests

    async def test_refused_connection(self) -> None:
        """No connection: the message has no secrets of the address."""
        bucket, _ = await self.opened()
        threads = BlockingThreads(reactor)
        threads.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(threads.close()))
        access = bucket.access(endpoint_url="http://user:password@127.0.0.1:1")
        target = bucket.target(threads, access=access)
        output = await self.fails(target.listing())
        assert output == f"s3://{bucket.name}: listing: no connection"

    async def test_invalid_settings(self) -> None:
        """Addresses and names that botocore refuses: the message does not have them."""
        bucket, target = await self.opened(bucket="no bucket/at all")
        assert "a name in the settings is not valid" in await self.fails(target.listing())
        access = bucket.access(endpoint_url=f"x{KEY_ID}")
        target.service = AwsService(access, "s3")
        assert "an address in the settings is not valid" in await self.fails(target.listing())

    async def test_no_credentials(self) -> None:
        """No credentials in the environment: the message names that."""
        _, target = await self.opened()
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            os.environ.pop(name)
        assert (await self.fails(target.listing())).endswith("listing: there are no credentials")

    async def test_no_such_snapshot(self) -> None:
        """It is an error of its own."""
        _, target = await self.opened()
        with pytest.raises(NoSuchSnapshotError):
            await content_of(target)

    async def test_completion_whose_response_is_lost(self) -> None:
        """S3 has done it, and does not know the upload any more: it's there, that is enough."""
        bucket, target = await self.opened()
        bucket.way.fault(completes, Fault(lose_response=True), 1)
        bucket.way.fault(completes, Fault(404, "NoSuchUpload"), 1)
        assert await target.write(NAME, chunks(LARGE)) == len(LARGE)
        assert await content_of(target) == LARGE

    async def test_failed_completion(self) -> None:
        """An upload that was aborted meanwhile is no success."""
        bucket, target = await self.opened()
        bucket.way.fault(completes, Fault(404, "NoSuchUpload"))
        assert "NoSuchUpload" in await self.fails(target.write(NAME, chunks(LARGE)))
        await self.nothing_is_left(bucket)

    async def test_object_is_deleted_after_a_lost_response(self) -> None:
        """A write that is reported as failed is not there, even if S3 has it."""
        bucket, target = await self.opened()
        bucket.way.fault(puts, Fault(lose_response=True))
        assert "writing: the connection" in await self.fails(target.write(NAME, chunks(SMALL)))
        await self.nothing_is_left(bucket)

    async def test_undo_may_fail(self) -> None:
        """The first error is raised; the rest is logged and cleaned up a day later."""
        bucket, target = await self.opened()
        bucket.way.fault(second_part, Fault(403, "AccessDenied"))
        bucket.way.fault(
            lambda received: received.method == "DELETE", Fault(403, "RequestTimeTooSkewed")
        )
        assert "access is denied" in await self.fails(target.write(NAME, chunks(LARGE)))
        assert await bucket.uploads() == [NAME.text]
        assert await bucket.keys() == []
        bucket.way.faults.clear()
        begun = await bucket.begun_at()
        target.now = lambda: begun + LEFTOVER_S
        assert await target.clean() == 0
        assert await bucket.uploads() == [NAME.text]
        target.now = lambda: begun + LEFTOVER_S + 1
        assert await target.clean() == 1
        await self.nothing_is_left(bucket)

    async def test_uploads_of_other_programs_are_not_aborted(self) -> None:
        """However old they are."""
        bucket, target = await self.opened("p")
        for key in (f"/{NAME.text}", "/p/other", f"/p/{NAME.text}.x"):
            assert (await bucket.send("POST", f"{key}?uploads")).status == 200
        target.now = lambda: time.time() + LEFTOVER_S + 1
        assert await target.clean() == 0
        assert len(await bucket.uploads()) == 3

    async def test_source_of_the_content_may_fail(self) -> None:
        """Its error is what the writer gets, and nothing is left."""
        bucket, target = await self.opened()

        async def failing(content: bytes) -> AsyncGenerator[bytes]:
            async for chunk in chunks(content):
                yield chunk
            raise ZeroDivisionError

        for content in (SMALL, LARGE):
            with pytest.raises(ZeroDivisionError):
                await target.write(NAME, failing(content))
            await self.nothing_is_left(bucket)

    async def test_cancelled_write_leaves_nothing(self) -> None:
        """While a part, the completion or a small object is on its way, even if it arrives."""
        for content, step in ((LARGE, second_part), (LARGE, completes), (SMALL, puts)):
            bucket, target = await self.opened()
            go: Deferred[None] = Deferred()
            bucket.way.fault(step, Fault(hold=go), 1)
            arrival = bucket.way.arrival(step)
            ended: list[Any] = []
            writing = Deferred.fromCoroutine(target.write(NAME, chunks(content)))
            writing.addErrback(ended.append)
            await arrival
            writing.cancel()
            writing.cancel()
            assert not ended
            go.callback(None)
            await writing
            assert ended[0].check(CancelledError)
            await self.nothing_is_left(bucket)

    async def test_cancellation_while_content_is_awaited(self) -> None:
        """The remaining content is not awaited."""
        bucket, target = await self.opened()
        waits: Deferred[bytes] = Deferred()
        reached: Deferred[None] = Deferred()

        async def slow() -> AsyncGenerator[bytes]:
            async for chunk in chunks(LARGE):
                yield chunk
            reached.callback(None)
            yield await waits

        writing = ensureDeferred(target.write(NAME, slow()))
        await reached
        assert len(await bucket.uploads()) == 1
        writing.cancel()
        with pytest.raises(CancelledError):
            await writing
        await self.nothing_is_left(bucket)

    async def test_interrupted_response_is_retried(self) -> None:
        """The part, not the whole object."""
        bucket, target = await self.opened()
        await target.write(NAME, chunks(LARGE))
        bucket.way.fault(
            lambda received: received.fields.get("range", "").startswith(f"bytes={FETCHED_BYTES}-"),
            Fault(truncate_response=True),
            1,
        )
        assert await content_of(target) == LARGE
        parts = -(-len(LARGE) // FETCHED_BYTES)
        assert len([*filter(fetches, bucket.way.requests)]) == parts + 1

    async def test_response_that_is_always_interrupted(self) -> None:
        """The message names it."""
        bucket, target = await self.opened()
        await target.write(NAME, chunks(SMALL))
        bucket.way.fault(fetches, Fault(truncate_response=True))
        assert "reading: " in await self.fails(content_of(target))
        assert len([*filter(fetches, bucket.way.requests)]) == 2

    async def test_object_that_changes_during_the_read(self) -> None:
        """Two halves of different objects are not one."""
        bucket, target = await self.opened()
        await target.write(NAME, chunks(LARGE))
        async with aclosing(target.read(NAME)) as read:
            await anext(read)
            assert (await bucket.send("PUT", f"/{NAME.text}", LARGE[::-1])).status == 200

            async def rest() -> None:
                async for _ in read:
                    pass

            assert "it has changed meanwhile" in await self.fails(rest())


def test_boto3_is_not_imported_before_it_is_needed() -> None:
    """Loading it lasts a third of a second, which most mirrors need not spend."""
    program = (
        "import sys, ghmirror_tw.snapshots.s3_target, ghmirror_tw.snapshots.elasticache;"
        "sys.exit(bool({'boto3', 'botocore'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert ended.returncode == 0
