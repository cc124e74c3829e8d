"""Snapshots in a bucket of S3, or of what speaks like it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import closing
from typing import Any, Final, ParamSpec, TypeVar

from attrs import define, field
from twisted.logger import Logger
from zope.interface import implementer

from ghmirror_tw.snapshots.aws_service import Service, ask, code_of, is_interruption
from ghmirror_tw.snapshots.blocking_threads import BlockingThreads
from ghmirror_tw.snapshots.snapshot_errors import TargetError
from ghmirror_tw.snapshots.snapshot_names import (
    CHUNK_BYTES,
    LEFTOVER_S,
    SnapshotName,
    Stored,
    newest_first,
)
from ghmirror_tw.snapshots.target_interface import ITarget

P = ParamSpec("P")
R = TypeVar("R")

_log: Final = Logger(namespace="ghmirror.snapshots")

#: What is sent and fetched at once, and held a few times over on its way through boto3. S3 takes no
#: parts below 5 MiB, and not more than 10,000; it gives them in any size.
PART_BYTES: Final = 5 * 1024 * 1024
FETCHED_BYTES: Final = 2 * 1024 * 1024


@implementer(ITarget)
@define(eq=False)
class S3Target:
    """Keeps snapshots as objects of *bucket*, under *prefix* (no slashes around it).

    boto3 is only ever called by *workers*. A write holds two parts at most, a read one.
    """

    workers: BlockingThreads
    service: Service
    bucket: str
    prefix: str = ""
    sse: str = ""
    kms_key_id: str = ""
    part_bytes: int = PART_BYTES
    now: Callable[[], float] = field(default=time.time)

    @property
    def where(self) -> str:
        """What logs call it."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    async def listing(self) -> tuple[Stored, ...]:
        """Return what is there."""
        return await self._run("listing", self._list)

    async def write(self, name: SnapshotName, chunks: AsyncIterator[bytes]) -> int:
        """Upload an object: at once, or in parts if it is large. S3 shows it when it's whole."""
        upload = _Upload(self, self._key(name))
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
            await self._take_back(upload)
            raise

    async def read(self, name: SnapshotName) -> AsyncGenerator[bytes]:
        """Give an object in chunks, fetched in parts: one that breaks off is fetched again."""
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
        """Abort the old uploads of ours."""
        return await self._run("cleaning up", self._clean)

    async def _run(self, tried: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        where = f"{self.where}: {tried}"
        return await self.workers.run(lambda: ask(where, work, *args, **kwargs))

    async def _take_back(self, upload: _Upload) -> None:
        try:
            await self._run("taking back what was written", upload.take_back)
        except TargetError as error:
            _log.warn("{error}; it is tried again after a day", error=str(error))

    def _key(self, name: SnapshotName) -> str:
        return f"{self.prefix}/{name.text}".lstrip("/")

    def _name(self, key: str) -> SnapshotName | None:
        name = SnapshotName.parse(key.rpartition("/")[2])
        return name if name is not None and self._key(name) == key else None

    # In a thread.

    @property
    def encryption(self) -> dict[str, str]:
        """How S3 is told to encrypt what is written."""
        said = {"ServerSideEncryption": self.sse, "SSEKMSKeyId": self.kms_key_id}
        return {name: value for name, value in said.items() if value}

    def _pages(self, operation: str, entries: str) -> Iterator[Any]:
        prefix = f"{self.prefix}/ghmirror-".lstrip("/")
        pages = self.service.client.get_paginator(operation)
        for page in pages.paginate(Bucket=self.bucket, Prefix=prefix):
            yield from page.get(entries, ())

    def _list(self) -> tuple[Stored, ...]:
        objects = self._pages("list_objects_v2", "Contents")
        found = [(self._name(each["Key"]), each) for each in objects]
        return newest_first(
            [
                Stored(name, each["Size"], each["LastModified"].timestamp())
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
            answer = self.service.client.get_object(
                Bucket=self.bucket, Key=key, Range=span, IfMatch=tag
            )
            try:
                # entering the body itself would give what lies beneath it, with other errors
                with closing(answer["Body"]) as body:
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
class _Upload:
    """One object on its way; all of it runs in threads, one call at a time."""

    target: S3Target
    key: str
    size: int = 0
    _id: str = ""
    _parts: list[dict[str, Any]] = field(factory=list)
    _may_be_there: bool = False

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
        """Upload the rest, and have S3 make it one object. Returns the bytes of it all."""
        client = self.target.service.client
        if not self._id:
            self._may_be_there = True
            client.put_object(**self._at, Body=rest, **self.target.encryption)
            return len(rest)
        if rest:
            self.part(rest)
        self._may_be_there = True
        try:
            client.complete_multipart_upload(
                **self._at, UploadId=self._id, MultipartUpload={"Parts": self._parts}
            )
        except Exception as error:
            # The upload is gone when it was completed and only the answer was lost.
            if code_of(error) != "NoSuchUpload" or not self._is_there():
                raise
        return self.size

    def _is_there(self) -> bool:
        try:
            head = self.target.service.client.head_object(**self._at)
        except Exception:  # noqa: BLE001 - what went wrong before is what to tell
            return False
        return bool(head["ContentLength"] == self.size)

    def take_back(self) -> None:
        """Leave nothing, however far it has come."""
        client = self.target.service.client
        try:
            if self._id:
                client.abort_multipart_upload(**self._at, UploadId=self._id)
        except Exception as error:
            if code_of(error) != "NoSuchUpload":
                raise
        finally:
            if self._may_be_there:
                client.delete_object(**self._at)
