"""A change of `credential_secret` loses no record, and makes up no permission."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from ghmirror_tw.caching.credential_names import CredentialNames
from ghmirror_tw.redis_store.redis_archive import RedisArchive
from ghmirror_tw.store.record_sealing import Codec
from tests.harness.home import Home, open_home
from tests.harness.redis_servers import start_redis
from tests.harness.redis_stores import settled

OLD, NEW = "the former secret of thirty-two letters", "the new secret, of thirty-two letters"
BOTH, PREPARED = f"{NEW}\n{OLD}", f"{OLD}\n{NEW}"
REVALIDATED = "fwd=stale; fwd-status=304; detail=revalidated"
STALE = "fwd=stale; fwd-status=503; detail=server-error"
ALICE = b"token alice-1"


def named(secret: str) -> str:
    """Return the name of alice's credential by a secret."""
    return CredentialNames(secret.encode(), SERVER[0]).name(ALICE)


#: The server of the test in progress, which is part of all names.
SERVER = [b""]


def new_folder(case: TestCase) -> Path:
    """Return a new directory for snapshots."""
    folder = Path(case.mktemp()).absolute()
    folder.mkdir()
    return folder


class Secrets(TestCase):
    """Mirrors with different secrets, one after the other or side by side, on one Redis."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        self.redis = self.server.client()
        self.addCleanup(self.redis.close)
        self.home = await self.mirror(OLD)
        self.github = self.home.github
        SERVER[0] = self.home.parts.mirror.credentials.names.origin
        self.github.put("/thing", {"a": "x" * 100})
        self.github.put_list("/list", [{"n": 1}])
        await self.get(self.home, "/thing")
        self.github.reset_counts()

    async def mirror(self, secret: str, snapshot: Any = None, **cache: Any) -> Home:
        """Start a mirror with these secrets."""
        host, port = self.server.address
        github = (self.github,) if hasattr(self, "github") else ()
        settings = {"url": f"redis://{host}:{port}", "timeout": 30.0}
        options = {"backend": "redis", "credential_secret": secret, **cache}
        more = {} if snapshot is None else {"snapshot": snapshot}
        home = await open_home(self, *github, cache=options, redis=settings, **more)
        if home.parts.redis is not None:
            home.parts.redis.redis.renewal_interval_s = 0.0  # each confirmation is written
        return home

    async def get(self, home: Home, target: str = "/thing", **more: Any) -> Any:
        """GET a target for alice, and wait until Redis has what follows."""
        got = await home.get(target, token="alice-1", **more)
        if home.parts.redis is not None:
            await settled(home.parts.redis)
        return got

    def stored(self, pattern: str) -> dict[bytes, bytes]:
        """Return the values of all keys that match, without their prefix."""
        keys = list(self.redis.send("KEYS", f"ghmirror:{pattern}"))
        return {key.removeprefix(b"ghmirror:"): self.redis.send("GET", key) for key in keys}

    async def test_the_cache_is_not_lost(self) -> None:
        """Records named and sealed by the former secret are found, and stored again."""
        home = await self.mirror(BOTH)
        assert (await self.get(home)).outcome == REVALIDATED
        assert (await self.get(home)).outcome == REVALIDATED
        codec = Codec(NEW.encode())
        for name, blob in self.stored("{*}:r:*").items():
            assert codec.seals(name, blob)
        assert [name[-32:].decode() for name in self.stored("{*}:g:*")].count(named(NEW)) == 1
        await home.close()
        assert (await self.get(await self.mirror(NEW))).outcome == REVALIDATED
        assert self.github.total_paid == 0

    async def test_a_metric_shows_whether_the_former_secret_is_needed(self) -> None:
        """It counts requests until what they need has a name by the current secret."""
        home = await self.mirror(BOTH)
        counts = [await home.metric("ghmirror_former_secret_total")]
        for _ in range(2):
            await self.get(home)
            counts.append(await home.metric("ghmirror_former_secret_total"))
        assert counts == [0.0, 1.0, 1.0]

    async def test_nothing_is_written_with_an_older_secret(self) -> None:
        """No record has a former seal, or a name by the former secret."""
        before = self.stored("{*}:[grxne]*")
        home = await self.mirror(PREPARED)
        await self.get(home, "/list")
        await home.close()
        home = await self.mirror(BOTH)
        await self.get(home, "/user")
        await home.send("POST", "/list", token="alice-1", body=b"{}")
        await self.get(home, "/list")
        await self.get(home)
        former = Codec(OLD.encode())
        for name, blob in self.stored("{*}:[grxne]*").items():
            if blob != before.get(name):
                assert named(OLD).encode() not in name or b":g:" in name or b":e:" in name
        written = self.stored("{*}:g:*")
        new = {name: blob for name, blob in written.items() if named(NEW).encode() in name}
        assert len(new) == 3
        assert not any(former.seals(name, blob) for name, blob in new.items())

    async def test_a_former_grant_permits_nothing_before_github_confirms_it(self) -> None:
        """A refusal or a write under the current name would not have ended it."""
        home = await self.mirror(BOTH, fresh_for=60.0)
        wrong = self.github.fault(None, "503")
        assert (await self.get(home)).status == 503
        wrong.end()
        assert (await self.get(home)).outcome == REVALIDATED
        assert (await self.get(home)).outcome == REVALIDATED
        assert (await self.get(home)).outcome == "hit; detail=fresh"
        wrong = self.github.fault(None, "503")
        assert (await self.get(home, headers={"Cache-Control": "max-age=0"})).status == 200

    async def test_a_write_ends_what_other_replicas_permit(self) -> None:
        """Those that know the credential by its former name, and those that will."""
        for one, other in ((BOTH, OLD), (BOTH, PREPARED), (PREPARED, BOTH)):
            writer, reader = await self.mirror(one), await self.mirror(other)
            for _ in range(2):
                await self.get(reader)
            wrong = self.github.fault("/thing", "503")
            assert (await self.get(reader)).outcome == STALE
            await writer.send("POST", "/list", token="alice-1", body=b"{}")
            assert (await self.get(reader)).status == 503
            wrong.end()
            await writer.close()
            await reader.close()

    async def test_a_401_ends_what_other_replicas_permit(self) -> None:
        """The token is revoked, and a replica with the former secret serves nothing stale."""
        reader, other = await self.mirror(PREPARED), await self.mirror(BOTH)
        for _ in range(2):
            await self.get(reader)
        self.github.revoke("alice-1")
        assert (await self.get(other, "/user")).status == 401
        self.github.fault("/thing", "503")
        assert (await self.get(reader)).status == 503

    async def test_another_look_up_only_where_nothing_is_found(self) -> None:
        """A confirmed response needs as many commands as with one secret."""

        async def calls(home: Home) -> dict[str, int]:
            self.redis.calls()
            await self.get(home)
            ours = {"evalsha", "mget", "get", "exists"}
            return {name: n for name, n in self.redis.calls().items() if name in ours}

        home = await self.mirror(BOTH)
        first = await calls(home)
        await self.get(home)
        await home.close()
        one, several = await self.mirror(NEW), await self.mirror(BOTH)
        await self.get(one)
        await self.get(several)
        assert await calls(one) == await calls(several)
        assert first["mget"] > (await calls(several))["mget"]

    async def test_a_secret_that_sighup_brings(self) -> None:
        """Copies of content in this process do not preserve the former seal in Redis."""
        for home in (self.home,):
            secrets = (NEW.encode(), OLD.encode())
            home.parts.mirror.credentials.rename(CredentialNames.by(secrets, SERVER[0]))
            home.parts.store.redis.use(Codec.by(secrets))
            assert (await self.get(home)).outcome == REVALIDATED
        codec = Codec(NEW.encode())
        stored = self.stored("{*}:r:*")
        assert stored
        assert all(codec.seals(name, blob) for name, blob in stored.items())

    async def test_snapshots_of_the_former_secret_are_restored(self) -> None:
        """Into an empty Redis and into memory, and with the current seals; unless it is missing."""
        folder = new_folder(self)
        target = {"target": folder.as_uri(), "restore_wait": 10.0}
        former = await self.mirror(OLD, snapshot=target)
        assert former.parts.snapshots is not None
        await former.parts.snapshots.settled()
        await former.parts.snapshots.saver.save()
        await former.close()
        self.redis.send("FLUSHALL")
        for backend in ("redis", "memory"):
            home = await self.mirror(BOTH, snapshot=target, backend=backend)
            assert home.parts.snapshots is not None
            await home.parts.snapshots.settled()
            assert (await self.get(home)).outcome == REVALIDATED
            if backend == "redis":
                codec = Codec(NEW.encode())
                assert all(codec.seals(*each) for each in self.stored("{*}:r:*").items())
                await home.parts.snapshots.saver.save()
            await home.close()
        assert self.github.total_paid == 0
        assert len(list(folder.iterdir())) > 1
        self.redis.send("FLUSHALL")
        home = await self.mirror(NEW, snapshot=target)
        assert home.parts.snapshots is not None
        await home.parts.snapshots.settled()
        await self.get(home)
        assert self.github.total_paid == 0

    async def test_a_filled_store_stays_filled(self) -> None:
        """Its mark by the former secret is valid, and is replaced; nothing is logged."""
        before, after = (
            RedisArchive(home.parts.store.redis, "x")
            for home in (self.home, await self.mirror(BOTH))
        )
        assert await before.mark() is None
        await before.mark_filled()
        mark = await before.mark()
        assert mark is not None
        assert await after.filled_by_others() is None
        assert await after.mark() == mark
        new = RedisArchive((await self.mirror(NEW)).parts.store.redis, "x")
        assert await new.mark() == mark
        assert await new.filled_by_others() is not None

    async def test_a_refusal_under_the_former_name_outweighs_its_grant(self) -> None:
        """The 404 that GitHub sent then is known now."""
        self.github.put("/thing", {"a": "x" * 100}, private_to=("bob",))
        assert (await self.get(self.home)).status == 404
        home = await self.mirror(BOTH)
        self.github.put("/thing", {"a": "x" * 100})
        await self.get(home)
        assert self.github.exchanges("/thing")[-1].field(b"if-none-match") is not None
