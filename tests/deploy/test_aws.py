"""The CloudFormation template is clean, and its role may do what the mirror does, and no more."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from ghmirror_tw.config.settings_loader import load
from ghmirror_tw.snapshots.elasticache import ElastiCacheNames
from tests.harness.running import ROOT

TEMPLATE = ROOT / "conf" / "aws" / "ghmirror.yaml"
SNAPSHOTS = ROOT / "ghmirror_tw" / "snapshots"

BUCKET = "arn:aws:s3:::bucket"
ELASTICACHE = "arn:aws:elasticache:eu-central-1:123456789012"
VALUES = {
    "Bucket": "bucket",
    "Bucket.Arn": BUCKET,
    "Name": "fleet",
    "SnapshotPrefix": "ghmirror",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "123456789012",
    "Redis.PrimaryEndPoint.Address": "master.fleet.x.euc1.cache.amazonaws.com",
    "Redis.ReaderEndPoint.Address": "replica.fleet.x.euc1.cache.amazonaws.com",
    "Redis.PrimaryEndPoint.Port": "6379",
    "Redis.ReaderEndPoint.Port": "6379",
    "Redis": "fleet",
}

#: What boto3 does for the mirror, and which permission AWS wants for it.
S3 = {
    "list_objects_v2": ("s3:ListBucket", "bucket"),
    "list_multipart_uploads": ("s3:ListBucketMultipartUploads", "bucket"),
    "head_object": ("s3:GetObject", "object"),
    "get_object": ("s3:GetObject", "object"),
    "put_object": ("s3:PutObject", "object"),
    "create_multipart_upload": ("s3:PutObject", "object"),
    "upload_part": ("s3:PutObject", "object"),
    "complete_multipart_upload": ("s3:PutObject", "object"),
    "abort_multipart_upload": ("s3:AbortMultipartUpload", "object"),
    "delete_object": ("s3:DeleteObject", "object"),
}
EXPORTS = {
    "list_objects_v2": ("s3:ListBucket", "bucket"),
    "delete_object": ("s3:DeleteObject", "export"),
    "create_snapshot": ("elasticache:CreateSnapshot", "group"),
    "copy_snapshot": ("elasticache:CopySnapshot", "snapshot"),
    "delete_snapshot": ("elasticache:DeleteSnapshot", "snapshot"),
    "describe_snapshots": ("elasticache:DescribeSnapshots", "snapshot"),
}

_NAMED = ElastiCacheNames("fleet")
RESOURCES = {
    "bucket": BUCKET,
    "object": f"{BUCKET}/ghmirror/ghmirror-redis-20261125T101112.123Z.snap",
    "export": f"{BUCKET}/{_NAMED.at(0)}-0001.rdb",
    "snapshot": f"{ELASTICACHE}:snapshot:{_NAMED.at(0)}",
    "group": f"{ELASTICACHE}:replicationgroup:fleet",
}


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads CloudFormation's short forms, with values in the place of what they name."""


def _fill(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    text = str(loader.construct_scalar(node))
    if node.tag == "!Sub":
        return re.sub(r"\$\{([\w.:]+)\}", lambda found: VALUES.get(found[1], found[0]), text)
    return VALUES.get(text, text)


_Loader.add_multi_constructor("!", _fill)


def template() -> dict[str, Any]:
    """Return the template with the values of one stack."""
    read: dict[str, Any] = yaml.load(TEMPLATE.read_text(), _Loader)
    return read


def statements() -> Iterator[tuple[list[str], list[str], dict[str, Any]]]:
    """Yield actions, resources and conditions of all permissions of the role."""
    for policy in template()["Resources"]["Role"]["Properties"]["Policies"]:
        for each in policy["PolicyDocument"]["Statement"]:
            assert each["Effect"] == "Allow"
            yield _many(each["Action"]), _many(each["Resource"]), each.get("Condition", {})


def _many(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def may(action: str, resource: str) -> bool:
    """Whether the role may do something to something, in some case at least."""
    return any(
        action in actions and any(fnmatchcase(resource, pattern) for pattern in patterns)
        for actions, patterns, _ in statements()
    )


def calls(module: str) -> set[str]:
    """Return what a module has boto3 do."""
    text = (SNAPSHOTS / module).read_text()
    found = {*re.findall(r"client\.(\w+)\(", text)} - {"get_paginator", "close"}
    return found | {*re.findall(r'(?:get_paginator|_pages)\("(\w+)"', text)}


def test_templates_pass_cfn_lint() -> None:
    """cfn-lint reports nothing, not even information, in regions of each kind."""
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("cfn-lint"), str(TEMPLATE)),
            *("--include-checks", "I", "--regions", "us-east-1", "eu-central-1", "ap-southeast-2"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(("module", "known"), [("s3_target.py", S3), ("elasticache.py", EXPORTS)])
def test_role_allows_the_calls_of_the_mirror(
    module: str, known: dict[str, tuple[str, str]]
) -> None:
    """Each AWS call in the code is in the table below, and the role allows it."""
    assert calls(module) == set(known)
    for call, (action, what) in known.items():
        assert may(action, RESOURCES[what]), call
    # CreateSnapshot is judged by what it makes as well.
    assert may("elasticache:CreateSnapshot", RESOURCES["snapshot"])


def test_role_denies_everything_else() -> None:
    """The role allows no other bucket, group, snapshot, object or action."""
    needed = {action for known in (S3, EXPORTS) for action, _ in known.values()}
    needed |= {"s3:GetBucketAcl", "s3:GetBucketLocation", "s3:ListAllMyBuckets"}
    assert {action for actions, _, _ in statements() for action in actions} == needed
    for resource in (
        *("arn:aws:s3:::other", "arn:aws:s3:::other/ghmirror/x", f"{BUCKET}/private/x"),
        *(f"{ELASTICACHE}:replicationgroup:other", f"{ELASTICACHE}:snapshot:automatic.other"),
    ):
        allowed = {action for action in needed if may(action, resource)}
        assert allowed <= {"s3:ListAllMyBuckets", "elasticache:DescribeSnapshots"}, resource


def test_listing_is_limited_to_the_prefix() -> None:
    """The bucket may be listed where the mirror lists, and nowhere else."""
    ((_, _, condition),) = [each for each in statements() if "s3:ListBucket" in each[0]]
    patterns = condition["StringLike"]["s3:prefix"]
    for prefix in ("ghmirror/ghmirror-", _NAMED.prefix):
        assert any(fnmatchcase(prefix, pattern) for pattern in patterns), prefix
    assert not any(fnmatchcase("private/", pattern) for pattern in patterns)


def test_elasticache_may_export() -> None:
    """ElastiCache may write exports at the bucket's top, under the mirror's names."""
    deny, allow = template()["Resources"]["BucketPolicy"]["Properties"]["PolicyDocument"][
        "Statement"
    ]
    assert (deny["Effect"], deny["Condition"]) == (
        "Deny",
        {"Bool": {"aws:SecureTransport": "false"}},
    )
    assert allow["Principal"] == {"Service": "eu-central-1.elasticache-snapshot.amazonaws.com"}
    assert {"s3:PutObject", "s3:GetBucketAcl"} <= set(allow["Action"])
    assert any(fnmatchcase(RESOURCES["export"], pattern) for pattern in allow["Resource"])


def test_redis_is_highly_available_and_encrypted() -> None:
    """Redis has more than one zone, TLS, a password, encryption and the advised policy."""
    resources = template()["Resources"]
    redis = resources["Redis"]["Properties"]
    for switch in (
        *("MultiAZEnabled", "AutomaticFailoverEnabled"),
        *("TransitEncryptionEnabled", "AtRestEncryptionEnabled"),
    ):
        assert redis[switch] is True
    assert redis["AuthToken"].startswith("{{resolve:secretsmanager:")
    parameters = resources["RedisParameters"]["Properties"]["Properties"]
    assert parameters == {"maxmemory-policy": "volatile-lru"}
    bucket = resources["Bucket"]
    assert bucket["DeletionPolicy"] == "Retain"
    assert all(bucket["Properties"]["PublicAccessBlockConfiguration"].values())


def test_old_snapshots_expire() -> None:
    """Snapshots expire long after the mirror's own limit, and incomplete uploads, too."""
    expires, aborts = template()["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"][
        "Rules"
    ]
    assert {expires["Status"], aborts["Status"]} == {"Enabled"}
    days = template()["Parameters"]["SnapshotDays"]
    assert expires["ExpirationInDays"] == "SnapshotDays"
    snapshot = load(None, {}).snapshot
    assert days["MinValue"] * 86_400 > snapshot.keep * snapshot.interval
    assert days["MinValue"] * 86_400 > snapshot.elasticache_interval
    assert aborts["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 2}


def test_outputs_are_valid_options(tmp_path: Path) -> None:
    """Outputs have the names of options, which accept their values."""
    secret = tmp_path / "secret"
    secret.write_text("what only we know, in 32 characters and more")
    lines: dict[str, list[str]] = {
        "cache": ["backend = redis", f"credential_secret_path = {secret}"],
        "redis": [f"password_path = {secret}"],
        "snapshot": [],
    }
    for output in template()["Outputs"].values():
        found = re.fullmatch(r"\[(\w+)\] (\w+)", output["Description"])
        if found is not None:
            lines[found[1]].append(f"{found[2]} = {output['Value']}")
    path = tmp_path / "ghmirror.ini"
    text = "".join(f"[{section}]\n" + "\n".join(each) + "\n" for section, each in lines.items())
    path.write_text(text)
    loaded = load(path, {})
    assert loaded.warnings == ()
    assert loaded.redis.reader_url.startswith("rediss://replica.")
    assert loaded.snapshot.bucket == ("bucket", "ghmirror")
    assert loaded.snapshot.elasticache_replication_group == "fleet"
