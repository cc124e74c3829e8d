"""A stand-in for ElastiCache's snapshots on a real socket, with states, quotas and permissions.

It speaks the query protocol: requests are parsed, and responses and errors are built, by the shapes
of botocore's own model of the service. An operation that lasts in AWS lasts some looks here: a
snapshot is ``creating`` for the next `looks` responses to DescribeSnapshots that would include it,
then ``available``; an export is ``exporting`` for as many, then its objects are in the bucket.

In a test on the reactor::

    bucket = await open_bucket(self)
    elasticache = open_elasticache(self, bucket)
    elasticache.groups["sessions"] = 2  # shards
    elasticache.denied.add("CopySnapshot")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import botocore.session
from attrs import define, field, frozen
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from ghmirror_tw.snapshots.aws_service import AwsAccess
from tests.fakes.closing_site import ClosingSite
from tests.fakes.s3 import Bucket

reactor: Any = global_reactor

_NAME: Final = re.compile(r"[a-z](?:-?[a-z0-9])*", re.ASCII)
_USER: Final = "arn:aws:iam::123456789012:user/mirror"


class FaultError(Exception):
    """An error of the service, by its code."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@define
class Snapshot:
    """One snapshot; after *left* queries it has its next state."""

    name: str
    group: str
    shards: int
    source: str = "manual"
    status: str = "available"
    left: int = 0
    bucket: str = ""

    @property
    def shown(self) -> dict[str, Any]:
        return {
            "SnapshotName": self.name,
            "ReplicationGroupId": self.group,
            "SnapshotStatus": self.status,
            "SnapshotSource": self.source,
            "Engine": "redis",
            "NumNodeGroups": self.shards,
            "AutoMinorVersionUpgrade": True,
            "NodeSnapshots": [
                {"NodeGroupId": f"{shard:04}", "CacheSize": "12 MB"}
                for shard in range(1, self.shards + 1)
            ],
        }


@frozen
class Model:
    """The service as botocore knows it."""

    service: Any = field(
        factory=lambda: botocore.session.get_session().get_service_model("elasticache")
    )

    def fault(self, name: str, message: str) -> NoReturn:
        """Raise an error of the model by the name of its shape."""
        error = self.service.shape_for(name).metadata["error"]
        raise FaultError(error["code"], error["httpStatusCode"], message)

    def arguments(self, action: str, sent: dict[str, str]) -> dict[str, str]:
        """Return the arguments of an action. All that are used here are strings and numbers."""
        shape = self.service.operation_model(action).input_shape
        unknown = set(sent) - set(shape.members)
        missing = set(shape.required_members) - set(sent)
        if unknown or missing:
            text = f"unknown: {sorted(unknown)}; missing: {sorted(missing)}"
            raise FaultError("ValidationError", 400, text)
        return sent

    def response(self, action: str, result: dict[str, Any]) -> bytes:
        """Return the response of an action."""
        shape = self.service.operation_model(action).output_shape
        wrapper = shape.serialization["resultWrapper"]
        inside = "".join(self._members(shape, result))
        space = self.service.metadata["xmlNamespace"]
        return (
            f'<{action}Response xmlns="{space}"><{wrapper}>{inside}</{wrapper}>'
            f"<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{action}Response>"
        ).encode()

    def error(self, fault: FaultError) -> bytes:
        """Return the response of a failed action."""
        space = self.service.metadata["xmlNamespace"]
        return (
            f'<ErrorResponse xmlns="{space}"><Error><Type>Sender</Type><Code>{fault.code}</Code>'
            f"<Message>{escape(str(fault))}</Message></Error><RequestId>1</RequestId>"
            "</ErrorResponse>"
        ).encode()

    def _members(self, shape: Any, value: dict[str, Any]) -> Iterator[str]:
        for name, each in value.items():
            member = shape.members[name]
            tag = member.serialization.get("name", name)
            yield f"<{tag}>{self._content(member, each)}</{tag}>"

    def _content(self, shape: Any, value: Any) -> str:
        match shape.type_name:
            case "structure":
                return "".join(self._members(shape, value))
            case "list":
                tag = shape.member.serialization.get("name", "member")
                return "".join(
                    f"<{tag}>{self._content(shape.member, each)}</{tag}>" for each in value
                )
            case "boolean":
                return str(value).lower()
            case "timestamp":
                assert isinstance(value, datetime)
                return value.isoformat()
            case _:
                return escape(str(value))


@define(eq=False)
class ElastiCache:
    """The service: replication groups with their shards, and snapshots."""

    bucket: Bucket
    groups: dict[str, int] = field(factory=dict)
    snapshots: dict[str, Snapshot] = field(factory=dict)
    denied: set[str] = field(factory=set)
    quota: int = 1000
    looks: int = 2
    may_write_to_bucket: bool = True
    loses_shards: int = 0
    page: int = 50
    react: Callable[[str], object] = lambda _: None
    """Called with the name of an action when it has been done."""
    calls: list[tuple[str, dict[str, str]]] = field(factory=list)
    port: int = 0
    model: Model = field(factory=Model)

    def access(self, **more: Any) -> AwsAccess:
        """How to reach it."""
        url = f"http://127.0.0.1:{self.port}"
        return AwsAccess(**{"region": "us-east-1", "endpoint_url": url, "attempts": 2, **more})

    def add(self, name: str, group: str, **more: Any) -> Snapshot:
        """Create a snapshot."""
        made = Snapshot(name, group, self.groups[group], **more)
        self.snapshots[name] = made
        return made

    def actions(self) -> list[str]:
        """Return the called actions, except DescribeSnapshots."""
        return [action for action, _ in self.calls if action != "DescribeSnapshots"]

    async def response(self, action: str, sent: dict[str, str]) -> bytes:
        """Execute an action."""
        self.calls.append((action, sent))
        if action in self.denied:
            text = f"User: {_USER} is not authorized to perform: elasticache:{action}"
            raise FaultError("AccessDenied", 403, text)
        arguments = self.model.arguments(action, sent)
        methods: dict[str, Any] = {
            "CreateSnapshot": self._create,
            "CopySnapshot": self._copy,
            "DescribeSnapshots": self._describe,
            "DeleteSnapshot": self._delete,
        }
        response = self.model.response(action, await methods[action](**arguments))
        self.react(action)
        return response

    def _new(self, name: str) -> str:
        name = name.lower()
        if not _NAME.fullmatch(name):
            self.model.fault("InvalidParameterValueException", f"{name} is not a valid name")
        if name in self.snapshots:
            self.model.fault("SnapshotAlreadyExistsFault", f"{name} exists")
        if sum(each.source == "manual" for each in self.snapshots.values()) >= self.quota:
            self.model.fault("SnapshotQuotaExceededFault", "Only so many snapshots are allowed")
        return name

    def _known(self, name: str) -> Snapshot:
        if name not in self.snapshots:
            self.model.fault("SnapshotNotFoundFault", f"{name} not found")
        return self.snapshots[name]

    async def _create(self, ReplicationGroupId: str, SnapshotName: str) -> dict[str, Any]:
        if ReplicationGroupId not in self.groups:
            self.model.fault("ReplicationGroupNotFoundFault", f"{ReplicationGroupId} not found")
        name = self._new(SnapshotName)
        mine = [each for each in self.snapshots.values() if each.group == ReplicationGroupId]
        if any(each.status == "creating" for each in mine):
            self.model.fault("InvalidReplicationGroupStateFault", "A snapshot is being made")
        made = self.add(name, ReplicationGroupId, status="creating", left=self.looks)
        return {"Snapshot": made.shown}

    async def _copy(
        self, SourceSnapshotName: str, TargetSnapshotName: str, TargetBucket: str = ""
    ) -> dict[str, Any]:
        source = self._known(SourceSnapshotName)
        if source.status != "available":
            self.model.fault("InvalidSnapshotStateFault", f"It is {source.status}")
        assert TargetBucket, "only exports are made here"
        if not self.may_write_to_bucket:
            text = (
                "ElastiCache has not been granted WRITE permissions "
                f"on the S3 Bucket {TargetBucket}."
            )
            self.model.fault("InvalidParameterValueException", text)
        if TargetBucket != self.bucket.name:
            text = f"The S3 bucket {TargetBucket} does not exist."
            self.model.fault("InvalidParameterValueException", text)
        there = await self.bucket.keys()
        for key in self._keys(TargetSnapshotName, source.shards):
            if key in there:
                text = f"The S3 bucket {TargetBucket} already contains an object with key {key}."
                self.model.fault("InvalidParameterValueException", text)
        source.status, source.left, source.bucket = "exporting", self.looks, TargetSnapshotName
        return {"Snapshot": source.shown}

    @staticmethod
    def _keys(name: str, shards: int) -> list[str]:
        return [f"{name}-{shard:04}.rdb" for shard in range(1, shards + 1)]

    async def _describe(
        self,
        SnapshotName: str = "",
        SnapshotSource: str = "",
        Marker: str = "0",
    ) -> dict[str, Any]:
        if SnapshotName:
            shown = [self._known(SnapshotName)]
        else:
            wanted = {"user": "manual", "system": "automated"}.get(SnapshotSource)
            shown = [each for each in self.snapshots.values() if wanted in {None, each.source}]
        start = int(Marker)
        end = start + self.page
        response: dict[str, Any] = {} if end >= len(shown) else {"Marker": str(end)}
        response["Snapshots"] = [each.shown for each in shown[start:end]]
        for each in shown[start:end]:
            await self._go_on(each)
        return response

    async def _go_on(self, snapshot: Snapshot) -> None:
        snapshot.left -= 1
        if snapshot.left > 0 or snapshot.status not in {"creating", "exporting"}:
            return
        if snapshot.status == "exporting":
            keys = self._keys(snapshot.bucket, snapshot.shards - self.loses_shards)
            for key in keys:
                assert (await self.bucket.send("PUT", f"/{key}", b"REDIS0011")).status == 200
        snapshot.status = "available"

    async def _delete(self, SnapshotName: str) -> dict[str, Any]:
        snapshot = self._known(SnapshotName)
        if snapshot.status in {"creating", "exporting"}:
            self.model.fault("InvalidSnapshotStateFault", f"It is {snapshot.status}")
        del self.snapshots[SnapshotName]
        return {"Snapshot": {**snapshot.shown, "SnapshotStatus": "deleting"}}


class _Responses(Resource):
    isLeaf = True

    def __init__(self, elasticache: ElastiCache) -> None:
        super().__init__()
        self.elasticache = elasticache

    def render(self, request: Any) -> int:
        done = Deferred.fromCoroutine(self._respond(request))
        done.addErrback(self._broke, request)
        return NOT_DONE_YET

    @staticmethod
    def _broke(reason: Any, request: Any) -> None:
        request.channel.transport.abortConnection()
        reason.raiseException()

    async def _respond(self, request: Any) -> None:
        elasticache = self.elasticache
        sent = dict(parse_qsl(request.content.read().decode(), keep_blank_values=True))
        request.setHeader("content-type", "text/xml")
        assert "/elasticache/aws4_request" in (request.getHeader("authorization") or "")
        try:
            assert sent.pop("Version") == elasticache.model.service.api_version
            content = await elasticache.response(sent.pop("Action"), sent)
        except FaultError as fault:
            request.setResponseCode(fault.status)
            content = elasticache.model.error(fault)
        request.write(content)
        request.finish()


def open_elasticache(test: TestCase, bucket: Bucket) -> ElastiCache:
    """Start one that exports to a bucket; it ends with the test."""
    elasticache = ElastiCache(bucket)
    barrier = ClosingSite(_Responses(elasticache), reactor=reactor)
    port = reactor.listenTCP(0, barrier, interface="127.0.0.1")
    elasticache.port = port.getHost().port
    test.addCleanup(port.stopListening)
    test.addCleanup(barrier.close)
    return elasticache
