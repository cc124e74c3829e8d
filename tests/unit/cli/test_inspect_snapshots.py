"""The snapshots of a target are listed, verified and shown, without changes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ghmirror_tw.cli import value_formatting
from ghmirror_tw.snapshots.snapshot_format import BLOCK_BYTES
from ghmirror_tw.store.record_sealing import Codec
from tests.unit.cli.command_process import Operator
from tests.unit.cli.snapshot_files import API_URL, AT_MS, CODEC, OWNER, SECRET, packed, put, some
from tests.unit.store.store_contract import ALICE, BOB

NEWEST = f"ghmirror-{OWNER}-20261125T093000.123Z.snap"
OLDER = "ghmirror-memory-host-20261125T092959.123Z.snap"


def put_two(kept: Path) -> tuple[bytes, bytes]:
    """Write two snapshots of different owners, and a file that is none; return the two."""
    newest, older = packed(some()), packed(some(1), "memory-host", AT_MS - 1000)
    assert put(kept, newest) == NEWEST
    assert put(kept, older, "memory-host", AT_MS - 1000) == OLDER
    (kept / "notes.txt").write_text("not ours")
    return newest, older


# Listing.


def test_the_list_is_a_table_newest_first(operator: Operator, kept: Path) -> None:
    """It has no line for what is no snapshot, and nothing but the table is on stdout."""
    newest, older = put_two(kept)
    ended = operator.run("snapshot", "list")
    assert (ended.status, ended.err) == (0, "")
    sizes = [value_formatting.size(len(each)) for each in (newest, older)]
    wide = max(map(len, sizes))
    lines = [
        ("NAME", "OWNER", f"TIME{' ' * 19}", "SIZE"),
        (NEWEST, OWNER, "2026-11-25 09:30:00 UTC", sizes[0]),
        (OLDER, "memory-host", "2026-11-25 09:29:59 UTC", sizes[1]),
    ]
    assert ended.out == "".join(
        f"{name.ljust(len(NEWEST))}  {owner.ljust(len(OWNER))}  {at}  {size.rjust(wide)}\n"
        for name, owner, at, size in lines
    )


def test_the_list_for_programs(operator: Operator, kept: Path) -> None:
    """The same, with bytes and times that can be counted with."""
    newest, older = put_two(kept)
    assert operator.run("snapshot", "list", "--json").json == {
        "target": kept.as_uri(),
        "snapshots": [
            {
                "name": NEWEST,
                "owner": OWNER,
                "written_at": "2026-11-25T09:30:00.123Z",
                "size_bytes": len(newest),
            },
            {
                "name": OLDER,
                "owner": "memory-host",
                "written_at": "2026-11-25T09:29:59.123Z",
                "size_bytes": len(older),
            },
        ],
    }


def test_an_empty_directory_is_no_fault_of_the_list(operator: Operator, kept: Path) -> None:
    """Nothing is on stdout for a program to stumble over."""
    kept.mkdir()
    ended = operator.run("snapshot", "list")
    assert (ended.status, ended.out) == (0, "")
    assert ended.err == f"{kept.as_uri()}: there are no snapshots\n"
    assert operator.run("snapshot", "list", "--json").json["snapshots"] == []


@pytest.mark.parametrize("command", ["list", "verify"])
def test_a_directory_that_is_not_there(operator: Operator, kept: Path, command: str) -> None:
    """May be a disk that is not mounted: a line, status 3, and it isn't made."""
    ended = operator.run("snapshot", command)
    assert (ended.status, ended.out) == (3, "")
    text = f"{kept.as_uri()}: there is no such directory; the first snapshot creates it"
    assert ended.err.startswith(f"error: {text}\nhint: ")
    assert operator.run("snapshot", command, "--json").error == (3, "target", text)
    assert not kept.exists()


def test_a_directory_that_is_a_file(operator: Operator, kept: Path) -> None:
    """The error of the system is printed."""
    kept.write_text("")
    ended = operator.run("snapshot", "list")
    assert (ended.status, ended.out) == (3, "")
    text = f"{kept.as_uri()} cannot be listed: Not a directory"
    assert ended.err.startswith(f"error: {text}\nhint: ")


# Verifying.


def damaged(whole: bytes) -> dict[str, tuple[bytes, str, str]]:
    """Return damaged snapshots, the fault of each, and the words for it."""
    middle = len(whole) // 2
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    begun = bytearray(whole)
    begun[9] = 9  # the version
    return {
        "empty": (b"", "empty", "it is empty (at byte 0)"),
        "other": (b"PK" + whole, "not-a-snapshot", "it does not begin as a snapshot does"),
        "newer": (
            bytes(begun),
            "newer-version",
            "it has version 9; versions up to 3 are supported",
        ),
        "cut": (whole[:middle], "truncated", f"it ends without a trailer (at byte {middle})"),
        "bit": (bytes(flipped), "damaged", f"its checksum is wrong (at byte {len(whole)})"),
        "more": (whole + b"x", "damaged", "bytes follow its end"),
    }


def test_complete_and_damaged_snapshots_are_listed(operator: Operator, kept: Path) -> None:
    """Each is judged for itself, with what is wrong and where; status 1 if one is damaged."""
    whole = packed(some())
    cases = damaged(whole)
    put(kept, whole)
    for number, (content, _, _) in enumerate(cases.values(), start=1):
        put(kept, content, at_ms=AT_MS - number)
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    ended = operator.run("snapshot", "verify")
    assert ended.status == 1
    first, *lines = ended.out.splitlines()
    assert first.startswith(f"whole    {NEWEST}  12 records, ")
    for (_, _, text), line in zip(cases.values(), lines, strict=True):
        assert line.startswith("damaged  ghmirror-")
        assert text in line
    assert [line.split(" (")[0] for line in ended.err.splitlines()] == [
        f"Verifying {number} of 7" for number in range(1, 8)
    ]
    fields = operator.run("snapshot", "verify", "--json", "--quiet")
    assert (fields.status, fields.err, fields.json["whole"]) == (1, "", False)
    good, *bad = fields.json["snapshots"]
    assert (good["whole"], good["records"], good["error"]) == (True, 12, None)
    for (_, code, text), each in zip(cases.values(), bad, strict=True):
        assert (each["whole"], each["records"], each["content_bytes"]) == (False, None, None)
        assert each["error"]["code"] == code
        assert text in each["error"]["message"]
        assert each["error"]["message"].endswith(f" (at byte {each['error']['at_byte']})")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before


@pytest.mark.parametrize("command", ["verify", "show"])
def test_snapshot_of_another_secret_is_unusable(
    operator: Operator, kept: Path, command: str
) -> None:
    """Without records, of another secret, or not sealed at all: named, and status 1."""
    cases = {
        packed([]): ("no-records", "it contains no records"),
        packed(some(), codec=Codec(b"another secret")): (
            "other-secret",
            "its records are sealed with another [cache] credential_secret",
        ),
        packed(some(), codec=Codec()): (
            "other-secret",
            "its records are not sealed, but [cache] credential_secret is set",
        ),
    }
    for content, (code, text) in cases.items():
        put(kept, content)
        ended = operator.run("snapshot", command, NEWEST)
        assert ended.status == 1
        assert re.search(rf"^unusable .*{re.escape(text)}", ended.out, re.MULTILINE)
        fields = operator.run("snapshot", command, "--json", NEWEST)
        assert (fields.status, fields.json["whole"]) == (1, False)
        one = fields.json if command == "show" else fields.json["snapshots"][0]
        assert (one["whole"], one["error"]["code"]) == (False, code)


def test_the_newest_is_of_this_store_before_others(operator: Operator, kept: Path) -> None:
    """As a mirror would choose, so that other stores with the same target raise no alarm."""
    operator.configure({"cache": {"backend": "redis"}})
    put(kept, packed(some()))
    put(kept, packed([], "another", AT_MS + 1), "another", AT_MS + 1)
    ended = operator.run("snapshot", "verify", "--newest")
    assert (ended.status, ended.out.split()[:2]) == (0, ["whole", NEWEST])
    assert operator.run("snapshot", "verify").status == 1


def test_the_newest_or_those_that_are_named(operator: Operator, kept: Path) -> None:
    """An older one that is damaged is of no interest then."""
    put_two(kept)
    put(kept, b"", "memory-host", AT_MS - 1000)
    assert operator.run("snapshot", "verify").status == 1
    ended = operator.run("snapshot", "verify", "--newest")
    assert (ended.status, ended.out.split()[:2]) == (0, ["whole", NEWEST])
    assert operator.run("snapshot", "verify", NEWEST, NEWEST).out == ended.out
    fields = operator.run("snapshot", "verify", "--json", NEWEST).json
    assert (fields["target"], fields["whole"]) == (kept.as_uri(), True)
    (one,) = fields["snapshots"]
    assert list(one) == [
        *("name", "owner", "written_at", "size_bytes"),
        *("whole", "records", "content_bytes", "error"),
    ]
    assert operator.run("snapshot", "verify", OLDER).status == 1


def test_no_snapshot_at_all_is_not_well(operator: Operator, kept: Path) -> None:
    """A backup without a snapshot is a fault."""
    kept.mkdir()
    for more in ([], ["--newest"]):
        fields = operator.run("snapshot", "verify", "--json", *more)
        assert fields.error == (1, "no-snapshot", f"{kept.as_uri()}: there are no snapshots")


@pytest.mark.parametrize("command", ["verify", "show"])
def test_names_that_are_none(operator: Operator, kept: Path, command: str) -> None:
    """An invalid name is a fault of the command line; a missing one, of the target."""
    put_two(kept)
    for name in ("notes.txt", "../kept/" + NEWEST, NEWEST[:-1]):
        status, code, message = operator.run("snapshot", command, "--json", name).error
        assert (status, code) == (2, "usage")
        assert message.startswith(f"{name!r} is not a name")
    gone = NEWEST.replace("123Z", "124Z")
    text = f"{kept.as_uri()}: there is no {gone}"
    assert operator.run("snapshot", command, "--json", gone).error == (1, "no-such-snapshot", text)
    hint = "hint: ghmirror snapshot list shows the names\n"
    assert operator.run("snapshot", command, gone).err == f"error: {text}\n{hint}"


# Showing.


def test_content_of_a_snapshot(operator: Operator, kept: Path) -> None:
    """The header, and the number of records of each kind; no hash, no content, no secret."""
    content = packed([*some(content=b'["spam %d"]'), (b"something newer", b"1234")])
    put(kept, content)
    ended = operator.run("snapshot", "show", NEWEST, "--quiet")
    assert (ended.status, ended.err) == (0, "")
    head, _, records = ended.out.partition("\n\n")
    assert head.splitlines() == [
        f"name     {NEWEST}",
        f"target   {kept.as_uri()}",
        f"owner    {OWNER}",
        "store    redis",
        "written  2026-11-25 09:30:00 UTC",
        f"server   {API_URL}",
        f"size     {value_formatting.size(len(content))}",
        "whole    yes",
    ]
    rows = [line.rsplit(None, 3) for line in records.splitlines()[1:]]
    assert [(row[0].strip(), row[1]) for row in rows] == [
        ("representations", "3"),
        ("grants", "6"),
        ("entries of recency lists", "3"),
        ("refusals of a key", "0"),
        ("of an unknown kind", "1"),
        ("total", "13"),
    ]
    for secret in (SECRET, ALICE, BOB, "spam"):
        assert secret not in ended.out


def test_content_of_a_snapshot_as_json(operator: Operator, kept: Path) -> None:
    """The same keys, with any content."""
    pairs = some()
    content = packed(pairs)
    put(kept, content)
    output = operator.run("snapshot", "show", NEWEST, "--json").json
    records = output.pop("records")
    assert output == {
        "target": kept.as_uri(),
        "name": NEWEST,
        "owner": OWNER,
        "written_at": "2026-11-25T09:30:00.123Z",
        "size_bytes": len(content),
        "whole": True,
        "error": None,
        "header": {
            "owner": OWNER,
            "store": "redis",
            "fingerprint": CODEC.fingerprint,
            "api_url": API_URL,
            "written_at": "2026-11-25T09:30:00.123Z",
        },
    }
    assert {key: each["count"] for key, each in records.items()} == {
        "representations": 3,
        "grants": 6,
        "recency_entries": 3,
        "refusals": 0,
        "unknown": 0,
    }
    size = sum(len(name) + len(blob) for name, blob in pairs)
    assert sum(each["bytes"] for each in records.values()) == size


def test_content_of_a_damaged_snapshot(operator: Operator, kept: Path) -> None:
    """The records at its beginning, marked as incomplete; status 1."""
    pairs = some(3000)
    content = packed(pairs)
    assert sum(len(name) + len(blob) for name, blob in pairs) > 2 * BLOCK_BYTES
    put(kept, content[:-100])
    ended = operator.run("snapshot", "show", NEWEST)
    assert ended.status == 1
    assert "\ndamaged  it ends without a trailer (at byte " in ended.out
    assert "; its beginning has:\n" in ended.out
    fields = operator.run("snapshot", "show", NEWEST, "--json")
    assert fields.status == 1
    assert (fields.json["whole"], fields.json["header"]) == (False, None)
    assert fields.json["error"]["code"] == "truncated"
    assert 0 < fields.json["records"]["grants"]["count"] < 3000
    assert json.dumps(fields.json).count("error") == 1
