"""Names have the owner and the time; only they determine which snapshots are deleted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.snapshots.retention import shrunk, superseded
from ghmirror_tw.snapshots.snapshot_format import Header
from ghmirror_tw.snapshots.snapshot_names import SnapshotName, owner_of
from ghmirror_tw.snapshots.snapshot_writer import SnapshotWriter
from ghmirror_tw.snapshots.target_interface import StoredSnapshot, newest_first
from ghmirror_tw.store.record_kinds import REFUSAL
from ghmirror_tw.store.record_names import RecordName
from ghmirror_tw.store.record_sealing import Codec

owners = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", fullmatch=True).filter(str.isascii)
times = st.integers(0, 253_402_300_799_999)
names = st.builds(SnapshotName, owners, times)


def test_format_of_a_name() -> None:
    """As operators see it."""
    assert SnapshotName("redis-1", 1_795_599_000_123).text == (
        "ghmirror-redis-1-20261125T093000.123Z.snap"
    )


@given(names)
def test_names_round_trip(name: SnapshotName) -> None:
    """Names are parsed as they were written."""
    assert SnapshotName.parse(name.text) == name


@given(owners, times, times)
def test_names_of_an_owner_sort_by_time(owner: str, one: int, other: int) -> None:
    """So that any listing shows them in order."""
    texts = [SnapshotName(owner, at).text for at in (one, other)]
    assert (texts[0] < texts[1]) == (one < other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "ghmirror-20261125T093000.123Z.snap",
        "ghmirror--20261125T093000.123Z.snap",
        "ghmirror-a-20261125T093000.123Z.snap.tmp",
        " ghmirror-a-20261125T093000.123Z.snap",
        "ghmirror-a-20261125T093000.123Z.snap\n",
        "ghmirror-a-20261125T093000Z.snap",
        "ghmirror-a-20261325T093000.123Z.snap",
        "ghmirror-a-20260230T093000.123Z.snap",
        "ghmirror-a-20261125T093060.123Z.snap",
        "ghmirror-a-20261125T093061.123Z.snap",
        "ghmirror-a-19691125T093000.123Z.snap",
        "ghmirror-a-00001125T093000.123Z.snap",
        "ghmirror-a/b-20261125T093000.123Z.snap",
        "ghmirror-é-20261125T093000.123Z.snap",
        "ghmirror-a-\u0662\u0660\u0662\u06661125T093000.123Z.snap",
        "Ghmirror-a-20261125T093000.123Z.snap",
    ],
)
def test_other_names_are_not_parsed(text: str) -> None:
    """A similar name is ignored."""
    assert SnapshotName.parse(text) is None


@given(st.text())
def test_parsed_names_are_canonical(text: str) -> None:
    """Nothing is understood that we would not write."""
    for each in (text, f"ghmirror-{text}-20261125T093000.123Z.snap", f"ghmirror-a-{text}.snap"):
        parsed = SnapshotName.parse(each)
        assert parsed is None or parsed.text == each


@given(st.text(), st.text())
def test_any_text_becomes_an_owner(one: str, other: str) -> None:
    """It is valid in a name, and different texts are different owners."""
    assert SnapshotName(owner_of(one), 0).owner == owner_of(one)
    assert (owner_of(one) == owner_of(other)) == (one == other)


def test_host_names_are_not_changed() -> None:
    """So that operators find theirs."""
    assert owner_of("ghmirror-7d9f-x2.prod") == "ghmirror-7d9f-x2.prod"
    assert owner_of("redis://h:1/0").startswith("redis-h-1-0-")
    with pytest.raises(ValueError, match="owner"):
        SnapshotName("a/b", 0)


#: The sizes of a snapshot with records, and of one without (16 bytes of texts, and no records).
FULL, EMPTY = 1000, 90


@given(st.lists(names.map(lambda name: SnapshotName(name.owner[:1], name.at_ms))), st.data())
def test_newest_of_each_owner_remain(given_names: list[SnapshotName], data: st.DataObject) -> None:
    """The newest ones, none of which is older than a deleted one."""
    keep = data.draw(st.integers(1, 4))
    gone = set(superseded([StoredSnapshot(name, FULL) for name in given_names], keep))
    for owner in {name.owner for name in given_names}:
        own = {name for name in given_names if name.owner == owner}
        stay = own - gone
        assert len(stay) == min(keep, len(own))
        assert all(old.at_ms < name.at_ms for old in own & gone for name in stay)
    assert gone <= set(given_names)


def test_oldest_are_deleted_first() -> None:
    """After an interruption the least important ones are deleted; and one always remains."""
    given_names = [SnapshotName(owner, at) for at in (3, 1, 2) for owner in "ab"]
    assert superseded([StoredSnapshot(name, FULL) for name in given_names], 1) == tuple(
        SnapshotName(owner, at) for at in (1, 2) for owner in "ab"
    )
    with pytest.raises(ValueError, match="at least one"):
        superseded([], 0)


def test_empty_snapshots_supersede_nothing() -> None:
    """Those without records neither count among the newest, nor stay when newer ones are full."""
    sizes = {1: FULL, 2: EMPTY, 3: FULL, 4: EMPTY, 5: EMPTY}
    stored = [StoredSnapshot(SnapshotName("a", at), size) for at, size in sizes.items()]
    assert superseded(stored, 1) == (SnapshotName("a", 1), SnapshotName("a", 2))
    assert superseded(stored, 2) == ()
    assert superseded([each for each in stored if each.size_bytes == EMPTY], 1) == ()


@given(
    st.sampled_from(["memory", "redis"]), st.sampled_from(["", "0123abcd"]), st.text(max_size=40)
)
def test_size_shows_whether_there_are_records(kind: str, fingerprint: str, text: str) -> None:
    """For each header, and for the smallest record that a store can seal."""
    owner = owner_of(text)
    codec = Codec(b"")
    name = RecordName(REFUSAL, "0" * 40, "0" * 32).encode()
    for secret_fingerprint, pairs in (
        (fingerprint, []),
        ("", [(name, codec.seal(REFUSAL, name, 0.0))]),
    ):
        writer = SnapshotWriter(Header(owner, kind, 0, secret_fingerprint))
        size = sum(map(len, writer.add(pairs))) + len(writer.finish())
        stored = [StoredSnapshot(SnapshotName(owner, at), size) for at in (1, 2)]
        assert bool(superseded(stored, 1)) == bool(pairs)


def test_order_is_by_the_clock_of_the_target() -> None:
    """A replica whose clock is hours ahead makes snapshots with names of the future."""
    ahead = StoredSnapshot(SnapshotName("a", 9_000_000), FULL, 1.0)
    others = [StoredSnapshot(SnapshotName("a", at), FULL, 1.0 + at) for at in (1, 2)]
    assert newest_first([ahead, *others]) == (*reversed(others), ahead)
    assert superseded([ahead, *others], 2) == (ahead.name,)
    assert superseded([ahead, *others], 1) == (ahead.name, others[0].name)


def test_newest_full_snapshot_remains_as_well() -> None:
    """Snapshots of a store that has lost most of its records do not push out the last full one."""

    def kept(keep: int, *sizes: int) -> list[int]:
        stored = [StoredSnapshot(SnapshotName("a", at), size) for at, size in enumerate(sizes)]
        gone = superseded(stored, keep)
        return [each.size_bytes for each in stored if each.name not in gone]

    assert kept(2, 9000, 9001, 4000, 4001, 4002) == [9001, 4001, 4002]
    assert kept(1, 9000, 9001, 4000) == [9001, 4000]
    assert kept(1, 9000, 4000, 4501) == [4501]
    assert kept(2, 9000, 4600, 2200, 2201) == [4600, 2200, 2201]
    assert kept(2, 1000, 9000, 9001, 9002) == [9001, 9002]


def test_loss_of_most_records_is_detected() -> None:
    """Once, by comparison with the snapshot before; empty ones do not count."""
    sizes = (9000, EMPTY, 4000, 4001)
    stored = [StoredSnapshot(SnapshotName("a", at), size) for at, size in enumerate(sizes)]
    assert shrunk(stored[:2]) is None
    assert shrunk(stored[:3]) == (stored[2], stored[0])
    assert shrunk(stored) is None


def test_the_newest_is_listed_first() -> None:
    """Of any owner."""
    stored = [
        StoredSnapshot(SnapshotName(owner, at), 0) for owner, at in (("a", 2), ("b", 3), ("a", 1))
    ]
    assert [each.name.at_ms for each in newest_first(stored)] == [3, 2, 1]
