"""Uploads share the connections to GitHub: no credential can occupy those of the others."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.upstream.connection_shares import LONGEST_WAIT_S, ConnectionShare, ConnectionShares
from ghmirror_tw.upstream.request_queues import UNACCEPTED


@define(eq=False)
class Scene:
    """Shares of 100 connections, and what became of each upload."""

    clock: Clock = field(factory=Clock)
    shares: ConnectionShares = field(init=False)
    got: list[tuple[str, Any]] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.shares = ConnectionShares(100, self.clock)

    def begin(self, credential: str, times: int = 1) -> list[Deferred[ConnectionShare]]:
        """Begin uploads of a credential."""
        begun = [self.shares.acquire(credential) for _ in range(times)]
        for each in begun:
            each.addBoth(lambda result: self.got.append((credential, result)))
        return begun

    def end(self, credential: str, times: int = 1) -> None:
        """End uploads of a credential that are under way."""
        for _ in range(times):
            at, share = next(
                (n, each) for n, (name, each) in enumerate(self.got) if name == credential
            )
            del self.got[at]
            with share:
                pass

    @property
    def held(self) -> dict[str, int]:
        """How many uploads of each credential are under way."""
        return dict(self.shares.held)


def test_one_credential_holds_half() -> None:
    """Of the four fifths that uploads may hold."""
    scene = Scene()
    scene.begin("mallory", 100)
    assert scene.held == {"mallory": 40}


def test_each_credential_leaves_as_many_as_it_holds() -> None:
    """For uploads of a newcomer; and a fifth of all connections is for no upload."""
    scene = Scene()
    for number in range(12):
        scene.begin(f"mallory {number}", 41)
    held = list(scene.held.values())
    assert held[:7] == [40, 20, 10, 5, 3, 1, 1]
    assert sum(held) == 80


def test_released_shares_are_for_the_smallest_holder() -> None:
    """So two credentials that send all the time hold the same after a while."""
    scene = Scene()
    scene.begin("mallory", 100)
    scene.begin("malice", 100)
    assert scene.held == {"mallory": 40, "malice": 20}
    scene.end("mallory", 30)
    assert scene.held == {"mallory": 27, "malice": 27}
    scene.begin("alice")
    assert scene.held["alice"] == 1


def test_few_connections() -> None:
    """One upload is possible in any case."""
    for connections in (1, 2):
        shares = ConnectionShares(connections, Clock())
        assert shares.acquire("alice").called
        assert not shares.acquire("alice").called


def test_wait_ends_after_some_seconds() -> None:
    """With 503, or when the client disconnects."""
    scene = Scene()
    scene.begin("mallory", 40)
    first, second = scene.begin("mallory", 2)
    scene.clock.advance(1.0)
    first.cancel()
    assert scene.got[-1][1].check(CancelledError)
    scene.clock.advance(LONGEST_WAIT_S - 1)
    assert second.called
    error = scene.got[-1][1].value
    assert isinstance(error, MirrorError)
    assert (error.status, error.retry_after) == (503, 10)
    assert not scene.shares.waiting
    assert not scene.clock.getDelayedCalls()
    scene.end("mallory", 40)
    assert scene.held == {}


def test_uploads_that_fail_at_once_release_their_shares() -> None:
    """However many wait: those of a rate limited credential end as soon as they get a share."""
    scene = Scene()
    scene.begin("mallory", 40)
    for _ in range(1000):
        acquiring = scene.shares.acquire("mallory")
        acquiring.addCallback(lambda share: share.__exit__())
    scene.end("mallory")
    assert scene.held == {"mallory": 39}
    assert not scene.shares.waiting


def test_share_is_wanted_by_smaller_holders() -> None:
    """A credential with many uploads ends none of one with fewer."""
    scene = Scene()
    [alice] = scene.begin("alice")
    scene.begin("mallory", 100)
    shares = dict(scene.got)
    assert alice.called
    assert shares["mallory"].is_wanted()
    assert not shares["alice"].is_wanted()


def test_shares_of_unaccepted_credentials() -> None:
    """Half of the permits that there are for their requests; a slow one gives way to another."""
    scene = Scene()
    scene.begin(UNACCEPTED, 7)
    assert scene.held == {UNACCEPTED: 5}
    assert scene.got[0][1].is_wanted()
    scene.begin("mallory", 41)
    assert scene.held == {UNACCEPTED: 5, "mallory": 38}
    scene.end(UNACCEPTED, 6)
    assert scene.held == {UNACCEPTED: 1, "mallory": 40}
