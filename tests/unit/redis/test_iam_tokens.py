"""IAM tokens of ElastiCache: compared with botocore's own, and used by a real server."""

from __future__ import annotations

import datetime as dt
import os
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

from attrs import define, field
from botocore import auth
from botocore.credentials import Credentials as AwsCredentials
from botocore.hooks import HierarchicalEmitter
from botocore.model import ServiceId
from botocore.signers import RequestSigner
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.threadable import isInIOThread
from twisted.trial.unittest import TestCase

from ghmirror_tw.redis.iam_tokens import IamSigner, IamTokens
from ghmirror_tw.redis.server_endpoint import Credentials, RedisConnectError
from ghmirror_tw.runtime.content_threads import ContentThreads
from tests.harness.certificates import Authority
from tests.harness.home import open_home, reactor, until
from tests.harness.redis_servers import RedisServer, start_redis

REGION = "eu-central-1"
FIRST, SECOND = "AKIAFIRSTKEY", "AKIASECONDKEY"
URL = "master.group-1.abc123.euc1.cache.amazonaws.com"
SERVERLESS = "group-1-abc123.serverless.euc1.cache.amazonaws.com"


def environment(key: str | None, *, region: str = REGION, session: str = "") -> dict[str, str]:
    """Return an environment in which boto3 finds this access key, and no other credentials."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    found |= dict.fromkeys(("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"), "/nowhere")
    found["AWS_EC2_METADATA_DISABLED"] = "true"
    if region:
        found["AWS_REGION"] = region
    if key is not None:
        found |= {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": f"secret of {key}"}
    if session:
        found["AWS_SESSION_TOKEN"] = session
    return found


def use(case: TestCase, environ: dict[str, str]) -> None:
    """Set the environment of this process."""
    patched = mock.patch.dict(os.environ, environ, clear=True)
    patched.start()
    case.addCleanup(patched.stop)


def expected(key: str, at: dt.datetime, *, more: str = "", session: str | None = None) -> str:
    """Return the token of that second, signed by botocore, as AWS's own example does."""
    credentials = AwsCredentials(key, f"secret of {key}", session)
    emitter = HierarchicalEmitter()  # the signer has only a weak reference
    signer = RequestSigner(
        ServiceId("elasticache"), REGION, "elasticache", "v4", credentials, emitter
    )
    url = f"https://group-1/?Action=connect&User=mirror{more}"
    request = {"method": "GET", "url": url, "body": {}, "headers": {}, "context": {}}
    with mock.patch.object(auth, "get_current_datetime", return_value=at):
        signed: str = signer.generate_presigned_url(
            request, operation_name="connect", expires_in=900, region_name=REGION
        )
    return signed.removeprefix("https://")


def time_of(token: str) -> dt.datetime:
    """Return the time at which a token was signed."""
    (text,) = parse_qs(urlsplit(f"https://{token}").query)["X-Amz-Date"]
    return dt.datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)


class Signing(TestCase):
    """Tokens by themselves."""

    def test_a_token_is_the_one_of_botocore(self) -> None:
        """For a replication group, for a serverless cache, and with a role's session."""
        for host, session, more in (
            (URL, "", ""),
            (SERVERLESS, "", "&ResourceType=ServerlessCache"),
            (URL, "a session/token+", ""),
        ):
            use(self, environment(FIRST, session=session))
            token = IamSigner.of("mirror", "Group-1", host).sign()
            at = time_of(token)
            assert token == expected(FIRST, at, more=more, session=session or None)
            assert abs(dt.datetime.now(dt.UTC) - at) < dt.timedelta(minutes=1)
            assert "X-Amz-Expires=900" in token
            assert token.startswith("group-1/?Action=connect&User=mirror")


@define(eq=False)
class Numbered:
    """Signs tokens with numbers, or fails."""

    user: str = "mirror"
    error: Exception | None = None
    signed: list[bool] = field(factory=list)
    go: threading.Event | None = None

    def sign(self) -> str:
        """Return the next token, after *go*; note whether this is the reactor's thread."""
        self.signed.append(isInIOThread())
        if self.go is not None:
            self.go.wait()
        if self.error is not None:
            raise self.error
        return f"token {len(self.signed)}"


class Renewal(TestCase):
    """When tokens are signed anew; *at* is the time."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.at = 1000.0
        self.threads = ContentThreads(reactor)
        self.threads.open()
        self.addCleanup(self.threads.close)
        self.signer = Numbered()
        signer: Any = self.signer
        self.failures: list[float] = []
        self.tokens = IamTokens(
            signer,
            self.threads.run_blocking,
            lambda: self.at,
            lambda: self.failures.append(self.at),
        )

    async def password(self) -> str | None:
        """Return the password for a connection that is opened now."""
        credentials = await self.tokens.credentials()
        assert credentials.username == "mirror"
        return credentials.password

    async def test_a_token_is_renewed_long_before_it_ends(self) -> None:
        """After ten of its fifteen minutes; in a thread, since boto3 may wait for credentials."""
        assert await self.password() == "token 1"
        self.at += 599.0
        assert await self.password() == "token 1"
        self.at += 1.0
        assert await self.password() == "token 2"
        assert self.signer.signed == [False, False]

    async def test_a_valid_token_is_used_while_no_other_can_be_signed(self) -> None:
        """Its end is an error without any secret; then another attempt succeeds."""
        await self.password()
        self.signer.error = ValueError("hunter2")
        self.at += 700.0
        assert await self.password() == "token 1"
        self.at += 140.0
        with self.assertRaises(RedisConnectError) as caught:
            await self.password()
        assert str(caught.exception) == "no IAM token could be signed: ValueError"
        self.signer.error = None
        assert await self.password() == "token 4"
        assert self.failures == [1700.0, 1840.0]

    async def test_a_refused_token_is_not_used_again(self) -> None:
        """A late report of an earlier connection does not end the token that was signed since."""
        first = await self.tokens.credentials()
        second = await self.tokens.credentials()
        assert second == first
        first.on_refused()
        assert await self.password() == "token 2"
        second.on_refused()
        assert await self.password() == "token 2"
        assert len(self.signer.signed) == 2

    async def test_connections_share_a_signing(self) -> None:
        """A slow service of AWS occupies one of the threads in which content is converted."""
        go = threading.Event()
        self.addCleanup(go.set)
        self.signer.go = go
        waiting = [Deferred.fromCoroutine(self.password()) for _ in range(3)]
        assert await self.threads.run_blocking(lambda: "converted") == "converted"
        go.set()
        assert [await each for each in waiting] == ["token 1"] * 3
        assert len(self.signer.signed) == 1

    async def test_the_reasons_for_no_token(self) -> None:
        """They name what is missing."""
        signer = IamSigner.of("mirror", "group-1", URL)
        for environ, reason in (
            (environment(None), "there are no AWS credentials"),
            (environment(FIRST, region=""), "no AWS region is known; set AWS_REGION"),
            ({**environment(FIRST), "AWS_PROFILE": "x"}, "the AWS profile does not exist"),
        ):
            use(self, environ)
            tokens = IamTokens(signer, self.threads.run_blocking, lambda: self.at)
            with self.assertRaises(RedisConnectError) as caught:
                await tokens.credentials()
            assert str(caught.exception).endswith(reason)

    def test_a_token_is_not_shown(self) -> None:
        """It is a password for some minutes."""
        self.tokens.token = "hunter2"
        assert "hunter2" not in repr(self.tokens) + repr(Credentials("mirror", "hunter2"))


class Connections(TestCase):
    """A mirror on a real server with TLS, whose user has the tokens of a key as passwords."""

    timeout = 60

    def accept_only(self, server: RedisServer, key: str) -> set[str]:
        """Set the tokens of *key* for the next minutes as passwords of the user."""
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        tokens = {expected(key, now + dt.timedelta(seconds=n)) for n in range(-2, 120)}
        rules = ["on", "~*", "&*", "+@all", "resetpass", *(f">{each}" for each in tokens)]
        with server.client() as client:
            assert client.send("ACL", "SETUSER", "mirror", *rules) == b"OK"
        return tokens

    async def test_connections_use_the_token_of_their_time(self) -> None:
        """A token serves connections until its renewal, and later ones use another."""
        events: list[LogEvent] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        authority = Authority.new()
        server = start_redis(self, authority=authority, users=["mirror on ~* &* +@all >x"])
        use(self, environment(FIRST))
        tokens = self.accept_only(server, FIRST)
        host, port = server.address
        pem = server.directory / "authority.pem"
        home = await open_home(
            self,
            cache={"backend": "redis"},
            redis={
                "url": f"rediss://{host}:{port}",
                "username": "mirror",
                "iam": "group-1",
                "tls_ca_path": str(pem),
                "timeout": 10.0,
            },
        )
        store: Any = home.parts.redis
        assert store.available

        async def reconnected(available: Callable[[], bool]) -> None:
            """Break all connections of the mirror, and wait for what follows."""
            with server.client() as client:
                assert int(client.send("CLIENT", "KILL", "USER", "mirror")) > 0
            await until(lambda: not store.available)
            await until(available)

        # The cached token, by a key that boto3 does not find any more.
        use(self, environment(SECOND))
        await reconnected(lambda: bool(store.available))
        # After a refusal it is the other key's, without a wait for the renewal.
        tokens |= self.accept_only(server, SECOND)
        await reconnected(lambda: bool(store.available))
        # And so it is ten minutes later.
        home.move_on(601.0)
        await reconnected(lambda: bool(store.available))
        fields = " ".join(f"{formatEvent(event)} {event}" for event in events)
        assert not any(token in fields for token in tokens)
        assert not [each for each in ("X-Amz", "secret of", FIRST, SECOND) if each in fields]
