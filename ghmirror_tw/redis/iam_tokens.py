"""IAM tokens of Amazon ElastiCache, which are passwords for 15 minutes.

https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html. A token is the URL of the
action `connect`, presigned with the credentials of AWS (Signature Version 4), without its scheme.
ElastiCache closes a connection after 12 hours; a pool has replaced it long before.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlencode

from attrs import define, field, frozen
from twisted.logger import Logger

from ghmirror_tw.redis.server_endpoint import Credentials, RedisConnectError
from ghmirror_tw.runtime.deferreds import do_nothing
from ghmirror_tw.runtime.single_flight import SingleFlight

#: How long a token is valid, in seconds.
LIFE_S: Final = 900
#: A token is used for new connections for so long, in seconds; then another one is signed.
_RENEWED_AFTER_S: Final = 600.0
#: While no other one can be signed, it is used for so long, in seconds.
_USABLE_S: Final = 840.0
_SERVERLESS: Final = ".serverless."

_log: Final = Logger(namespace="ghmirror.store")

#: Texts for exceptions of botocore: their own may have parts of credentials.
_MEANINGS: Final = {
    "NoCredentialsError": "there are no AWS credentials",
    "PartialCredentialsError": "the AWS credentials are not complete",
    "CredentialRetrievalError": "no AWS credentials could be retrieved",
    "NoRegionError": "no AWS region is known; set AWS_REGION",
    "ProfileNotFound": "the AWS profile does not exist",
}


def load_botocore() -> None:
    """Import botocore, which takes 0.2 s, before any request is served."""
    import_module("botocore.session")
    import_module("botocore.signers")


@frozen
class IamSigner:
    """Signs tokens for *user* of *cache*, a replication group or a serverless cache."""

    user: str
    cache: str
    serverless: bool = False

    @classmethod
    def of(cls, user: str, cache: str, host: str) -> IamSigner:
        """Return the signer for the server at *host*, which names a serverless cache as such."""
        return cls(user, cache.lower(), _SERVERLESS in host)

    def sign(self) -> str:
        """Return a new token. Raises the exceptions of botocore; to be called in a thread.

        The credentials are those of boto3: of the environment, a file, a role. They are looked up
        each time, since they may have been replaced.
        """
        from botocore.exceptions import NoCredentialsError, NoRegionError  # noqa: PLC0415 - slow
        from botocore.model import ServiceId  # noqa: PLC0415
        from botocore.session import Session  # noqa: PLC0415
        from botocore.signers import RequestSigner  # noqa: PLC0415

        session: Any = Session()
        credentials = session.get_credentials()
        # boto3 does not read the variable that most of AWS's other tools read.
        region = session.get_config_variable("region") or os.environ.get("AWS_REGION")
        if credentials is None:
            raise NoCredentialsError
        if not region:
            raise NoRegionError
        signer = RequestSigner(
            ServiceId("elasticache"),
            region,
            "elasticache",
            "v4",
            credentials,
            session.get_component("event_emitter"),
        )
        query = {"Action": "connect", "User": self.user}
        if self.serverless:
            query["ResourceType"] = "ServerlessCache"
        url = f"https://{self.cache}/?{urlencode(query)}"
        request = {"method": "GET", "url": url, "body": {}, "headers": {}, "context": {}}
        signed: str = signer.generate_presigned_url(
            request, "connect", region_name=region, expires_in=LIFE_S
        )
        return signed.removeprefix("https://")


@define(eq=False)
class IamTokens:
    """Gives each new connection a token that is valid; *run* calls a function in a thread.

    *now* returns seconds of a clock that does not go back. *failed* is called when no token could
    be signed. A token that a server has refused is not used again. Connections of all pools share a
    signing, which occupies a thread for as long as a service of AWS takes.
    """

    signer: IamSigner
    run: Callable[[Callable[[], str]], Awaitable[str]]
    now: Callable[[], float]
    failed: Callable[[], object] = lambda: None
    token: str = field(init=False, default="", repr=False)
    _signed_at: float = field(init=False, default=0.0)
    _signings: SingleFlight[None] = field(init=False, factory=lambda: SingleFlight(do_nothing))

    async def credentials(self) -> Credentials:
        """Return the user with a token. Raises `RedisConnectError`."""
        if not self.token or self._age_s >= _RENEWED_AFTER_S:
            await self._signings.join(self.signer, self._renew)
        return Credentials(self.signer.user, self.token, partial(self._drop, self.token))

    def _drop(self, token: str) -> None:
        """Use *token* no more; connections of that time may report it after another was signed."""
        if token == self.token:
            self.token = ""

    @property
    def _age_s(self) -> float:
        return self.now() - self._signed_at

    async def _renew(self) -> None:
        """Sign another token; if that fails, the one before is used while it is valid."""
        signed_at = self.now()
        try:
            token = await self.run(self.signer.sign)
        except Exception as error:  # noqa: BLE001 - of botocore, of a file, of a process it runs
            self.failed()
            reason = _MEANINGS.get(type(error).__name__, type(error).__name__)
            if self.token and self._age_s < _USABLE_S:
                _log.warn("IAM token not renewed: reason={reason}", reason=reason)
                return
            raise RedisConnectError(f"no IAM token could be signed: {reason}") from None
        self.token, self._signed_at = token, signed_at
