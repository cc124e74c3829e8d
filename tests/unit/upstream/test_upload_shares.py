"""Uploads share the connections to GitHub: no credential can occupy those of the others."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.upstream import upload_shares
from ghmirror_tw.upstream.upload_shares import LONGEST_WAIT_S, UploadShare, UploadShares


@define(eq=False)
class Content:
    """The content of an upload: what was received of it."""

    size: int = 0
    complete: bool = False


def begun_share(share: UploadShare) -> UploadShare:
    """Begin to send as soon as there is a share."""
    share.begin()
    return share


@define(eq=False)
class Scene:
    """Shares of 100 connections, and what became of each upload."""

    uploads: list[Content] = field(factory=list)

    clock: Clock = field(factory=Clock)
    shares: UploadShares = field(init=False)
    got: list[tuple[str, Any]] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.shares = UploadShares(100, self.clock)

    def begin(self, credential: str, times: int = 1) -> list[Deferred[UploadShare]]:
        """Begin uploads of a credential."""
        uploads = [Content() for _ in range(times)]
        self.uploads += uploads
        begun = [self.shares.acquire(credential, each) for each in uploads]
        for each in begun:
            each.addCallback(begun_share)
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
        return {name: len(shares) for name, shares in self.shares.under_way.items()}


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
        shares = UploadShares(connections, Clock())
        assert shares.acquire("alice", Content()).called
        assert not shares.acquire("alice", Content()).called


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
    for _ in range(upload_shares.MOST_WAITING):
        acquiring = scene.shares.acquire("mallory", Content())
        acquiring.addCallback(lambda share: share.__exit__())
    scene.end("mallory")
    assert scene.held == {"mallory": 39}
    assert not scene.shares.waiting


def test_number_of_waiting_uploads_is_bounded(monkeypatch: Any) -> None:
    """For each credential."""
    monkeypatch.setattr(upload_shares, "MOST_WAITING", 2)
    scene = Scene()
    scene.begin("mallory", 43)
    assert scene.got[-1][1].check(MirrorError)
    assert len(scene.shares.waiting["mallory"]) == 2


def test_share_is_wanted_by_smaller_holders() -> None:
    """A credential with many uploads ends none of one with fewer."""
    scene = Scene()
    [alice] = scene.begin("alice")
    scene.begin("mallory", 100)
    shares = dict(scene.got)
    assert alice.called
    assert shares["mallory"].is_wanted()
    assert not shares["alice"].is_wanted()


def unfair(scene: Scene) -> set[object]:
    """Return the uploads that are to be aborted."""
    shares = [each for uploads in scene.shares.under_way.values() for each in uploads]
    assert all(each.is_wanted() for each in shares if each.is_unfair())
    return {each.upload for each in shares if each.is_unfair()}


def occupied() -> Scene:
    """Return a scene in which seven credentials hold all shares."""
    scene = Scene()
    for number, times in enumerate((40, 20, 10, 5, 3, 1, 1)):
        scene.begin(f"mallory {number}", times)
    assert not scene.shares.waiting
    return scene


def test_slow_uploads_beyond_an_equal_share_are_unfair() -> None:
    """While another credential waits: of eight, each may have 10."""
    scene = occupied()
    scene.clock.advance(9.0)
    assert not unfair(scene)
    [alice] = scene.begin("alice")
    assert unfair(scene) == set(scene.uploads[:60])
    scene.end("mallory 0")
    assert alice.called
    assert not unfair(scene)
    assert not scene.clock.getDelayedCalls()


def test_fast_young_and_complete_uploads_are_fair() -> None:
    """Below 64 kB/s they are slow, once they have lasted for 5 s."""
    scene = occupied()
    scene.clock.advance(4.9)
    scene.begin("alice")
    assert not unfair(scene)
    fast, complete = scene.uploads[:10], scene.uploads[10:20]
    for upload in fast:
        upload.size = 8 * 64 * 1024
    for upload in complete:
        upload.complete = True
    scene.clock.advance(3.1)
    assert unfair(scene) == set(scene.uploads[20:60])


def test_equal_shares_are_fair() -> None:
    """However slow they are: each upload waits for another one of its own kind."""
    scene = Scene()
    for name in ("mallory", "malice"):
        scene.begin(name, 41)
    assert scene.held == {"mallory": 40, "malice": 20}
    scene.clock.advance(9.0)
    assert not unfair(scene)


def test_time_before_the_request_is_sent_does_not_make_an_upload_slow() -> None:
    scene = Scene()
    scene.begin("a", 40)
    share = UploadShare(scene.shares, "a", Content())
    scene.clock.advance(8.0)
    scene.begin("b", 20)
    scene.begin("c", 11)
    assert not share.is_unfair()
    share.begin()
    scene.clock.advance(8.0)
    assert share.is_unfair()
