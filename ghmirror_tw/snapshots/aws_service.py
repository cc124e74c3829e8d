"""Clients of AWS and compatible services through boto3; all calls are made in threads."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from threading import Lock
from typing import Any, Final, ParamSpec, TypeVar

from attrs import define, field, frozen

from ghmirror_tw.runtime.garbage_collection import build_permanent
from ghmirror_tw.snapshots.snapshot_errors import (
    NoSuchSnapshotError,
    PermanentTargetError,
    TargetError,
)

P = ParamSpec("P")
R = TypeVar("R")

_DENIED: Final = "access is denied to the credentials in use"
_UNKNOWN: Final = "the credentials in use are not valid"
_BUSY: Final = "the service throttles requests"
_ELSEWHERE: Final = "the bucket is in another region; see s3_region"

#: Texts for error codes: the messages of a service may repeat credentials.
_MEANINGS: Final = {
    **dict.fromkeys(("AccessDenied", "AccessDeniedException", "AllAccessDisabled", "403"), _DENIED),
    **dict.fromkeys(
        (
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidToken",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
        ),
        _UNKNOWN,
    ),
    **dict.fromkeys(
        ("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "503"), _BUSY
    ),
    **dict.fromkeys(
        ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"),
        _ELSEWHERE,
    ),
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "NoSuchBucket": "there is no such bucket",
    "PreconditionFailed": "it has changed meanwhile",
    "SnapshotQuotaExceededFault": "the quota for manual snapshots is used up",
    "SnapshotFeatureNotSupportedFault": "this kind of node can't make snapshots",
    "ReplicationGroupNotFoundFault": "there is no such replication group",
    "InvalidReplicationGroupState": "the replication group is busy or not in order",
    "InvalidSnapshotState": "the snapshot is busy",
    "SnapshotAlreadyExistsFault": "a snapshot of that name exists",
}

#: Codes whose own message is shown: it names the permission that is missing, and has no secret.
_SHOWN: Final = {"InvalidParameterValue", "InvalidParameterCombination"}
_SHOWN_LENGTH: Final = 300

_GONE: Final = {"NoSuchKey", "404", "NotFound", "SnapshotNotFoundFault"}

#: Texts for the exceptions of botocore itself, by class name.
_LOCAL: Final = {
    "NoCredentialsError": "there are no credentials",
    "PartialCredentialsError": "the credentials are not complete",
    "CredentialRetrievalError": "no credentials could be retrieved",
    "TokenRetrievalError": "no credentials could be retrieved",
    "NoRegionError": "no region is known; see s3_region",
    "EndpointConnectionError": "no connection",
    "ConnectTimeoutError": "no connection in time",
    "ReadTimeoutError": "no response in time",
    "ConnectionClosedError": "the connection was closed",
    "ConnectionError": "the connection failed",
    "HTTPClientError": "the connection failed",
    "SSLError": "TLS failed; the certificate may not be trusted",
    "ProxyConnectionError": "no connection to the proxy",
    "ParamValidationError": "a name in the settings is not valid",
    "ValueError": "an address in the settings is not valid",
}

#: Codes and classes of failures that last until settings or permissions change.
_PERMANENT: Final = frozenset(
    {
        *(code for code, text in _MEANINGS.items() if text in {_DENIED, _UNKNOWN, _ELSEWHERE}),
        "NoSuchBucket",
        "NoCredentialsError",
        "PartialCredentialsError",
        "NoRegionError",
        "ParamValidationError",
        "ValueError",
    }
)


def load_boto3() -> None:
    """Import boto3, which takes 0.3 s, before any request is served."""
    import_module("boto3.session")


@frozen
class AwsAccess:
    """Region, endpoint and timeouts of a service; boto3 finds the credentials itself.

    With an *endpoint_url*, buckets are addressed by path and checksums are sent only where they
    are required, because not every S3-compatible service supports the newer ones.
    """

    region: str = ""
    endpoint_url: str = ""
    attempts: int = 3
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 20.0

    def client(self, service: str) -> Any:
        """Return a client of boto3. Raises the exceptions of boto3; see `explain`."""
        import boto3.session  # noqa: PLC0415 - it takes 0.3 s, and most mirrors do not need it
        from botocore.config import Config  # noqa: PLC0415

        config: dict[str, Any] = {
            "connect_timeout": self.connect_timeout_s,
            "read_timeout": self.read_timeout_s,
            "retries": {"mode": "standard", "total_max_attempts": self.attempts},
        }
        if self.endpoint_url:
            config["s3"] = {"addressing_style": "path"}
            config["request_checksum_calculation"] = "when_required"
            config["response_checksum_validation"] = "when_required"
        client = boto3.session.Session().client(
            service,
            region_name=self.region or None,
            endpoint_url=self.endpoint_url or None,
            config=Config(**config),
        )
        # urllib3 accepts a bare wildcard for any single label, and the common name as a host name
        # (against RFC 9525, section 2). OpenSSL accepts neither; botocore has no option for it.
        manager = client._endpoint.http_session._manager  # noqa: SLF001 - see above
        context = manager.connection_pool_kw["ssl_context"]
        context.check_hostname = True
        context.hostname_checks_common_name = False
        return client


@define(eq=False)
class AwsService:
    """A service of AWS with one client, whose creation is slow and not thread-safe.

    For use in threads only.
    """

    access: AwsAccess
    name: str
    _client: Any = field(init=False, default=None)
    _lock: Any = field(init=False, factory=Lock)

    @property
    def client(self) -> Any:
        """The client of boto3."""
        with self._lock:
            if self._client is None:
                self._client = build_permanent(lambda: self.access.client(self.name))
            return self._client

    def close(self) -> None:
        """Close the connections, after the threads that use them have ended."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def call_aws(tried: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Return the result of *work*; an exception of botocore becomes a `TargetError`."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - slow

    try:
        return work(*args, **kwargs)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise explain(error, tried) from None


def code_of(error: Exception) -> str:
    """Return the error code of a service, or ""."""
    response = getattr(error, "response", None)
    error_fields = response.get("Error", {}) if isinstance(response, dict) else {}
    return str(error_fields.get("Code", ""))


def explain(error: Exception, tried: str) -> TargetError:
    """Return an error with the operation *tried* and the reason, without any secret."""
    code = code_of(error)
    if code in _GONE:
        return NoSuchSnapshotError(f"{tried}: it does not exist")
    if code:
        meaning = _MEANINGS.get(code, "")
        if code in _SHOWN:
            message: str = getattr(error, "response", {}).get("Error", {}).get("Message", "")
            meaning = " ".join(message.split())[:_SHOWN_LENGTH]
        kind = PermanentTargetError if code in _PERMANENT else TargetError
        return kind(f"{tried}: {meaning} ({code})" if meaning else f"{tried}: {code}")
    names = [each.__name__ for each in type(error).__mro__]
    known = next((_LOCAL[name] for name in names if name in _LOCAL), names[0])
    kind = PermanentTargetError if _PERMANENT.intersection(names) else TargetError
    return kind(f"{tried}: {known}")


def is_interruption(error: Exception) -> bool:
    """Return whether a response was interrupted while it was read; boto3 does not retry those."""
    from botocore import exceptions  # noqa: PLC0415 - it is loaded by then

    return isinstance(error, exceptions.HTTPClientError | exceptions.IncompleteReadError)
