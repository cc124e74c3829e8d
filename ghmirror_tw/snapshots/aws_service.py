"""Asking AWS, and services that speak like it, through boto3: always in a thread."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, Final, ParamSpec, TypeVar

from attrs import define, field, frozen

from ghmirror_tw.runtime.garbage_collection import made_to_stay
from ghmirror_tw.snapshots.snapshot_errors import (
    NoSuchSnapshotError,
    PermanentTargetError,
    TargetError,
)

P = ParamSpec("P")
R = TypeVar("R")

_DENIED: Final = "access is denied to the credentials in use"
_UNKNOWN: Final = "the credentials in use are not valid"
_BUSY: Final = "the service asks to slow down"
_ELSEWHERE: Final = "the bucket is in another region; see s3_region"

#: What error codes mean, in our own words: what a service says may repeat credentials.
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

#: Where the service's own words are needed to know what to do (which of a bucket's permissions
#: ElastiCache misses), and tell no secret.
_SAID: Final = {"InvalidParameterValue", "InvalidParameterCombination"}
_SAID_LENGTH: Final = 300

_GONE: Final = {"NoSuchKey", "404", "NotFound", "SnapshotNotFoundFault"}

#: What botocore itself raises, by the names of its classes.
_LOCAL: Final = {
    "NoCredentialsError": "there are no credentials",
    "PartialCredentialsError": "the credentials are not complete",
    "CredentialRetrievalError": "no credentials could be got",
    "TokenRetrievalError": "no credentials could be got",
    "NoRegionError": "no region is known; see s3_region",
    "EndpointConnectionError": "no connection",
    "ConnectTimeoutError": "no connection in time",
    "ReadTimeoutError": "no answer in time",
    "ConnectionClosedError": "the connection was closed",
    "ConnectionError": "the connection failed",
    "HTTPClientError": "the connection failed",
    "SSLError": "TLS failed; the certificate may not be trusted",
    "ProxyConnectionError": "no connection to the proxy",
    "ParamValidationError": "a name in the settings is not valid",
    "ValueError": "an address in the settings is not valid",
}

#: Codes and classes of failures that are permanent until settings or permissions change.
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


def load() -> None:
    """Import boto3 now, where it is needed anyway, while nobody waits for anything yet."""


@frozen
class Access:
    """How a service is reached; credentials come from where boto3 always finds them.

    With an *endpoint_url* buckets are addressed by path, and checksums are sent only where they
    are required: not everything that speaks S3 knows the newer ones.
    """

    region: str = ""
    endpoint_url: str = ""
    attempts: int = 3
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 20.0

    def client(self, service: str) -> Any:
        """Return a client of boto3. Importing it takes a third of a second: not before it's needed.

        Raises what boto3 raises; see `explain`.
        """
        import boto3.session  # noqa: PLC0415 - see above
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
        # urllib3's own matching takes a bare wildcard for any single label, and the common name
        # for a host's (RFC 9525, section 2); OpenSSL does neither. botocore has no option for it.
        manager = client._endpoint.http_session._manager  # noqa: SLF001 - see above
        context = manager.connection_pool_kw["ssl_context"]
        context.check_hostname = True
        context.hostname_checks_common_name = False
        return client


@define(eq=False)
class Service:
    """A service of AWS, and its one client: making it is slow, and not safe to do twice at a time.

    For use in threads only.
    """

    access: Access
    name: str
    _client: Any = field(init=False, default=None)
    _lock: Any = field(init=False, factory=Lock)

    @property
    def client(self) -> Any:
        """The client of boto3."""
        with self._lock:
            if self._client is None:
                self._client = made_to_stay(lambda: self.access.client(self.name))
            return self._client

    def close(self) -> None:
        """Let go of connections, when the threads have ended that use them."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def ask(tried: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Return what *work* returns; what botocore raises in it becomes a `TargetError`."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - slow

    try:
        return work(*args, **kwargs)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise explain(error, tried) from None


def code_of(error: Exception) -> str:
    """Return the code by which a service calls an error, or ""."""
    response = getattr(error, "response", None)
    said = response.get("Error", {}) if isinstance(response, dict) else {}
    return str(said.get("Code", ""))


def explain(error: Exception, tried: str) -> TargetError:
    """Return an error that says what was tried and why it failed, without any secret."""
    code = code_of(error)
    if code in _GONE:
        return NoSuchSnapshotError(f"{tried}: it is not there")
    if code:
        meaning = _MEANINGS.get(code, "")
        if code in _SAID:
            said: str = getattr(error, "response", {}).get("Error", {}).get("Message", "")
            meaning = " ".join(said.split())[:_SAID_LENGTH]
        kind = PermanentTargetError if code in _PERMANENT else TargetError
        return kind(f"{tried}: {meaning} ({code})" if meaning else f"{tried}: {code}")
    names = [each.__name__ for each in type(error).__mro__]
    known = next((_LOCAL[name] for name in names if name in _LOCAL), names[0])
    kind = PermanentTargetError if _PERMANENT.intersection(names) else TargetError
    return kind(f"{tried}: {known}")


def is_interruption(error: Exception) -> bool:
    """Whether an answer broke off while it was read, which boto3 does not ask for again."""
    from botocore import exceptions  # noqa: PLC0415 - only where it's in use already

    return isinstance(error, exceptions.HTTPClientError | exceptions.IncompleteReadError)
