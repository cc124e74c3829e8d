"""Snapshots in a bucket, and all that may be wrong with the way to it."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.store import record_names
from ghmirror_tw.store.record_kinds import GRANT
from tests.fakes.s3 import ENVIRONMENT, KEY_ID, Bucket, Fault, open_bucket
from tests.fakes.s3 import SECRET as S3_SECRET
from tests.harness.redis_servers import start_redis
from tests.unit.cli.command_process import Ended, Operator
from tests.unit.cli.snapshot_files import AT_MS, CODEC, OWN_MARK_KEY, OWNER, SECRET, packed, some
from tests.unit.store.store_contract import BOB, grant

NEWEST = f"ghmirror-{OWNER}-20261125T093000.123Z.snap"
OLDER = f"ghmirror-{OWNER}-20261125T092959.123Z.snap"


@pytest.mark.usefixtures("s3_server")
class InABucket(TestCase):
    """On the reactor, which has the way to the bucket; the command is waited for in a thread."""

    async def home(self) -> tuple[Operator, Bucket]:
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        bucket = await open_bucket(self)
        operator = Operator(Path(made.name), more=dict(ENVIRONMENT)).configure(
            {
                "cache": {"credential_secret": SECRET},
                "snapshot": {
                    "target": f"s3://{bucket.name}/copies",
                    "s3_endpoint_url": bucket.url,
                    "s3_region": "us-east-1",
                },
            }
        )
        await bucket.send("PUT", f"/copies/{OLDER}", packed(some(1), at_ms=AT_MS - 1000))
        await bucket.send("PUT", f"/copies/{NEWEST}", packed(some()))
        await bucket.send("PUT", "/copies/notes.txt", b"not ours")
        return operator, bucket

    async def run_command(self, operator: Operator, *arguments: str) -> Ended:
        ended: Ended = await deferToThread(operator.run, "snapshot", *arguments)
        for secret in (SECRET, S3_SECRET, KEY_ID):
            assert secret not in ended.out + ended.err
        return ended

    async def test_it_is_like_a_directory(self) -> None:
        """Listed, verified, shown, restored from and saved to."""
        operator, bucket = await self.home()
        where = f"s3://{bucket.name}/copies"
        text = (await self.run_command(operator, "list", "--json")).json
        assert text["target"] == where
        assert [each["name"] for each in text["snapshots"]] == [NEWEST, OLDER]
        ended = await self.run_command(operator, "verify")
        assert ended.status == 0, ended.err
        assert [line.split()[:2] for line in ended.out.splitlines()] == [
            ["whole", NEWEST],
            ["whole", OLDER],
        ]
        text = (await self.run_command(operator, "show", "--json", NEWEST)).json
        assert text["records"]["grants"]["count"] == 6
        redis = start_redis(self)
        operator.configure(
            {
                "cache": {"backend": "redis"},
                "redis": {"url": f"redis://127.0.0.1:{redis.port}"},
                "snapshot": {"keep": 2},
            }
        )
        text = (await self.run_command(operator, "restore", "--json")).json
        assert (text["name"], text["restored"]) == (NEWEST, 12)
        text = (await self.run_command(operator, "save", "--json")).json
        assert text["records"] == 12
        assert set(await bucket.keys()) == {
            f"copies/{text['name']}",
            f"copies/{NEWEST}",
            "copies/notes.txt",
        }

    async def test_one_that_cannot_be_read(self) -> None:
        """It is not called damaged, and the others can be inspected; status 3."""
        operator, bucket = await self.home()
        bucket.way.fault(lambda sent: sent.path.endswith(NEWEST), Fault(403, "AccessDenied"))
        ended = await self.run_command(operator, "verify")
        assert ended.status == 3
        first, second = ended.out.splitlines()
        assert first.startswith(f"unread   {NEWEST}  s3://{bucket.name}/copies: reading: ")
        assert second.startswith(f"whole    {OLDER}  6 records, ")
        await bucket.send("PUT", f"/copies/{OLDER}", b"")
        assert (await self.run_command(operator, "verify")).status == 1
        await bucket.send("PUT", f"/copies/{OLDER}", packed([], at_ms=AT_MS - 1000))
        assert (await self.run_command(operator, "verify")).status == 1
        await bucket.send("PUT", f"/copies/{OLDER}", packed(some(1), at_ms=AT_MS - 1000))
        text = (await self.run_command(operator, "verify", "--json")).json
        assert not text["whole"]
        faults = {each["name"]: each["error"] for each in text["snapshots"]}
        assert faults[NEWEST]["code"] == "target"
        assert faults[OLDER] is None

    async def test_snapshot_that_is_deleted_meanwhile(self) -> None:
        """Was superseded, and that is no fault; but nothing at all was found well then."""
        operator, bucket = await self.home()
        bucket.way.fault(lambda sent: sent.path.endswith(NEWEST), Fault(404, "NoSuchKey"))
        ended = await self.run_command(operator, "verify")
        assert ended.status == 0, ended.out
        assert ended.out.startswith(f"gone     {NEWEST}  it was deleted meanwhile\n")
        assert (await self.run_command(operator, "verify", "--newest")).status == 1

    async def test_no_such_bucket(self) -> None:
        """One line, status 3, for each command."""
        operator, _ = await self.home()
        redis = start_redis(self)
        name = record_names.grant(CacheKey(b"/no"), BOB)
        redis.send("SET", b"ghmirror:" + name, CODEC.seal(GRANT, name, grant(time.time())))
        redis.send("SET", OWN_MARK_KEY, "1")
        operator.configure(
            {
                "cache": {"backend": "redis"},
                "redis": {"url": f"redis://127.0.0.1:{redis.port}"},
                "snapshot": {"target": "s3://no-such-bucket/x"},
            }
        )
        for command in ("list", "save", "restore"):
            ended = await self.run_command(operator, command, "--quiet")
            assert (ended.status, ended.out) == (3, "")
            (line,) = (line for line in ended.err.splitlines() if line.startswith("error"))
            assert line.startswith("error: s3://no-such-bucket/x: ")
            assert line.endswith(": there is no such bucket (NoSuchBucket)")

    async def test_missing_permission(self) -> None:
        """In words of the mirror, since the message of S3 repeats credentials."""
        operator, bucket = await self.home()
        bucket.way.fault(lambda sent: True, Fault(403, "InvalidAccessKeyId"))
        ended = await self.run_command(operator, "list", "--json")
        status, code, message = ended.error
        assert (status, code) == (3, "target")
        assert message == (
            f"s3://{bucket.name}/copies: listing: "
            "the credentials in use are not valid (InvalidAccessKeyId)"
        )

    async def test_missing_credentials(self) -> None:
        """Without credentials."""
        operator, bucket = await self.home()
        operator.more.update(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
        patched = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        operator.more.update(patched)
        ended = await self.run_command(operator, "list")
        assert ended.status == 3
        assert ended.err.startswith(
            f"error: s3://{bucket.name}/copies: listing: there are no credentials\nhint: "
        )
