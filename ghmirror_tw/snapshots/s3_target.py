"""Snapshots in a bucket of S3 or of a compatible service."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import closing
from typing import Any, Final, ParamSpec, TypeVar

from attrs import define, field
from twisted.logger import Logger
from zope.interface import implementer

from ghmirror_tw.snapshots.aws_service import AwsService, call_aws, code_of, is_interruption
from ghmirror_tw.snapshots.blocking_threads import BlockingThreads
from ghmirror_tw.snapshots.snapshot_errors import TargetError
from ghmirror_tw.snapshots.snapshot_names import SnapshotName
from ghmirror_tw.snapshots.target_interface import (
    CHUNK_BYTES,
    LEFTOVER_S,
    ITarget,
    StoredSnapshot,
    newest_first,
)

P = ParamSpec("P")
R = TypeVar("R")

_log: Final = Logger(namespace="ghmirror.snapshots")

#: The bytes that one request uploads or fetches; boto3 holds a few copies of them. S3 accepts up to
#: 10,000 parts of at least 5 MiB, and returns ranges of any size.
PART_BYTES: Final = 5 * 1024 * 1024
FETCHED_BYTES: Final = 2 * 1024 * 1024


@implementer(ITarget)
@define(eq=False)
class S3Target:
    """Snapshots as objects of *bucket* under *prefix* (without slashes around it).

    boto3 is called only in *threads*. A write holds up to two parts in memory, a read one.
    """

    threads: BlockingThreads
    service: AwsService
    bucket: str
    prefix: str = ""
    sse: str = ""
    kms_key_id: str = ""
    part_bytes: int = PART_BYTES
    now: Callable[[], float] = field(default=time.time)

    @property
    def where(self) -> str:
        """The URL of bucket and prefix."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    async def listing(self) -> tuple[StoredSnapshot, ...]:
        """Return the snapshots, newest first."""
        return await self._run("listing", self._list)

    async def write(self, name: SnapshotName, chunks: AsyncIterator[bytes]) -> int:
        """Upload an object, in parts if it is large; S3 lists it when it is complete."""
        upload = ObjectUpload(self, self._key(name))
        held = bytearray()
        try:
            async for chunk in chunks:
                held += chunk
                while len(held) > self.part_bytes:
                    with memoryview(held) as view:
                        part = bytes(view[: self.part_bytes])
                    del held[: self.part_bytes]
                    await self._run("writing", upload.part, part)
            return await self._run("writing", upload.finish, bytes(held))
        except Exception:
            await self._undo(upload)
            raise

    async def read(self, name: SnapshotName) -> AsyncGenerator[bytes]:
        """Yield an object in chunks; it is fetched in ranges, and an interrupted one again."""
        key = self._key(name)
        size, tag = await self._run("reading", self._head, key)
        step = min(self.part_bytes, FETCHED_BYTES)
        for start in range(0, size, step):
            end = min(start + step, size)
            part = await self._run("reading", self._fetch, key, tag, start, end)
            for at in range(0, len(part), CHUNK_BYTES):
                yield part[at : at + CHUNK_BYTES]

    async def delete(self, name: SnapshotName) -> None:
        """Delete an object."""
        await self._run("deleting", self._delete, self._key(name))

    async def clean(self) -> int:
        """Abort old uploads of the mirror."""
        return await self._run("cleaning up", self._clean)

    async def _run(self, tried: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        where = f"{self.where}: {tried}"
        return await self.threads.run(lambda: call_aws(where, work, *args, **kwargs))

    async def _undo(self, upload: ObjectUpload) -> None:
        try:
            await self._run("removing an unfinished snapshot", upload.undo)
        except TargetError as error:
            _log.warn(
                "Unfinished snapshot not removed, will be retried after a day: error={error}",
                error=str(error),
            )

    def _key(self, name: SnapshotName) -> str:
        return f"{self.prefix}/{name.text}".lstrip("/")

    def _name(self, key: str) -> SnapshotName | None:
        name = SnapshotName.parse(key.rpartition("/")[2])
        return name if name is not None and self._key(name) == key else None

    # In a thread.

    @property
    def encryption(self) -> dict[str, str]:
        """The parameters of S3 for encryption."""
        parameters = {"ServerSideEncryption": self.sse, "SSEKMSKeyId": self.kms_key_id}
        return {name: value for name, value in parameters.items() if value}

    def _pages(self, operation: str, entries: str) -> Iterator[Any]:
        prefix = f"{self.prefix}/ghmirror-".lstrip("/")
        pages = self.service.client.get_paginator(operation)
        for page in pages.paginate(Bucket=self.bucket, Prefix=prefix):
            yield from page.get(entries, ())

    def _list(self) -> tuple[StoredSnapshot, ...]:
        objects = self._pages("list_objects_v2", "Contents")
        found = [(self._name(each["Key"]), each) for each in objects]
        return newest_first(
            [
                StoredSnapshot(name, each["Size"], each["LastModified"].timestamp())
                for name, each in found
                if name is not None
            ]
        )

    def _head(self, key: str) -> tuple[int, str]:
        head = self.service.client.head_object(Bucket=self.bucket, Key=key)
        return head["ContentLength"], head["ETag"]

    def _fetch(self, key: str, tag: str, start: int, end: int) -> bytes:
        span = f"bytes={start}-{end - 1}"
        for left in reversed(range(self.service.access.attempts)):
            response = self.service.client.get_object(
                Bucket=self.bucket, Key=key, Range=span, IfMatch=tag
            )
            try:
                # As a context manager, the body would return the stream beneath it, with other
                # errors.
                with closing(response["Body"]) as body:
                    part: bytes = body.read()
            except Exception as error:
                if not left or not is_interruption(error):
                    raise
            else:
                return part
        raise AssertionError("there is at least one attempt")

    def _delete(self, key: str) -> None:
        self.service.client.delete_object(Bucket=self.bucket, Key=key)

    def _clean(self) -> int:
        uploads = [
            each
            for each in self._pages("list_multipart_uploads", "Uploads")
            if self._name(each["Key"]) is not None
            and self.now() - each["Initiated"].timestamp() > LEFTOVER_S
        ]
        for each in uploads:
            self.service.client.abort_multipart_upload(
                Bucket=self.bucket, Key=each["Key"], UploadId=each["UploadId"]
            )
        return len(uploads)


@define(eq=False)
class ObjectUpload:
    """An object that is being uploaded; its methods run in threads, one call at a time."""

    target: S3Target
    key: str
    size: int = 0
    _id: str = ""
    _parts: list[dict[str, Any]] = field(factory=list)
    _may_exist: bool = False

    @property
    def _at(self) -> dict[str, str]:
        return {"Bucket": self.target.bucket, "Key": self.key}

    def part(self, content: bytes) -> None:
        """Upload a part."""
        client = self.target.service.client
        if not self._id:
            begun = client.create_multipart_upload(**self._at, **self.target.encryption)
            self._id = begun["UploadId"]
        number = len(self._parts) + 1
        sent = client.upload_part(**self._at, UploadId=self._id, PartNumber=number, Body=content)
        checksums = {name: value for name, value in sent.items() if name.startswith("ChecksumCRC")}
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"], **checksums})
        self.size += len(content)

    def finish(self, rest: bytes) -> int:
        """Upload the rest and complete the upload; return the bytes of the object."""
        client = self.target.service.client
        if not self._id:
            self._may_exist = True
            client.put_object(**self._at, Body=rest, **self.target.encryption)
            return len(rest)
        if rest:
            self.part(rest)
        self._may_exist = True
        try:
            client.complete_multipart_upload(
                **self._at, UploadId=self._id, MultipartUpload={"Parts": self._parts}
            )
        except Exception as error:
            # The upload no longer exists if it was completed and only the response was lost.
            if code_of(error) != "NoSuchUpload" or not self._exists():
                raise
        return self.size

    def _exists(self) -> bool:
        try:
            head = self.target.service.client.head_object(**self._at)
        except Exception:  # noqa: BLE001 - the first error is the one to report
            return False
        return bool(head["ContentLength"] == self.size)

    def undo(self) -> None:
        """Abort the upload, or delete its object."""
        client = self.target.service.client
        try:
            if self._id:
                client.abort_multipart_upload(**self._at, UploadId=self._id)
        except Exception as error:
            if code_of(error) != "NoSuchUpload":
                raise
        finally:
            if self._may_exist:
                client.delete_object(**self._at)
