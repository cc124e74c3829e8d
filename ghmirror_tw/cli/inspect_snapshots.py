"""Commands that look at snapshots: list, verify, show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from attrs import define, field

from ghmirror_tw.cli import text_format
from ghmirror_tw.cli.context import Desk, word_for
from ghmirror_tw.cli.exit_status import CommandError, Status
from ghmirror_tw.snapshots.snapshot_errors import (
    NoSuchSnapshotError,
    SnapshotError,
    TargetError,
    UnusableError,
)
from ghmirror_tw.snapshots.snapshot_format import Pair, Summary
from ghmirror_tw.snapshots.snapshot_names import SnapshotName, StoredSnapshot
from ghmirror_tw.store.record_kinds import ENTRY, GRANT, REFUSAL, REPRESENTATION, RecordKind
from ghmirror_tw.store.record_names import parse
from ghmirror_tw.wiring.snapshot_parts import snapshot_owner

_SORTS: Final[dict[RecordKind[Any] | None, tuple[str, str]]] = {
    REPRESENTATION: ("representations", "representations"),
    GRANT: ("grants", "grants"),
    ENTRY: ("recency_entries", "entries of recency lists"),
    REFUSAL: ("refusals", "refusals of a key"),
    None: ("unknown", "of no known sort"),
}
_NOBODY_KNOWS: Final = {"records": None, "content_bytes": None}


def about(name: SnapshotName, size_bytes: int) -> dict[str, Any]:
    """Return what programs are told of any snapshot."""
    return {
        "name": name.text,
        "owner": name.owner,
        "written_at": text_format.timestamp(name.at_ms),
        "size_bytes": size_bytes,
    }


async def show_list(desk: Desk) -> Status:
    """List what is at the target, newest first."""
    out, listed = desk.out, await desk.listing()
    if not listed and not out.as_json:
        out.note(f"{desk.target.where}: there are no snapshots")
    if listed:
        rows = [("NAME", "OWNER", "TIME", "SIZE")]
        for name, size_bytes in ((each.name, each.size_bytes) for each in listed):
            rows.append(
                (
                    name.text,
                    name.owner,
                    text_format.moment(name.at_ms),
                    text_format.size(size_bytes),
                )
            )
        for line in text_format.table(rows, right=(3,)):
            out.line(line)
    snapshots = [about(each.name, each.size_bytes) for each in listed]
    out.document({"target": desk.target.where, "snapshots": snapshots})
    return Status.OK


# Verifying.


@define(eq=False)
class _Verified:
    """What was found out of one snapshot."""

    stored: StoredSnapshot
    word: str
    text: str
    summary: Summary | None = None
    fault: dict[str, Any] | None = None

    @property
    def document(self) -> dict[str, Any]:
        counted: dict[str, Any] = dict(_NOBODY_KNOWS)
        if self.summary is not None:
            counted = {
                "records": self.summary.records,
                "content_bytes": self.summary.size_bytes,
            }
        return {
            **about(self.stored.name, self.stored.size_bytes),
            "whole": self.fault is None,
            **counted,
            "error": self.fault,
        }


async def _verified(desk: Desk, stored: StoredSnapshot) -> _Verified:
    try:
        summary = await desk.repository.check_usable(stored)
    except UnusableError as error:
        fault = {"code": word_for(error), "message": str(error), "at_byte": error.at}
        return _Verified(stored, "unusable", str(error), error.summary, fault)
    except SnapshotError as error:
        fault = {"code": word_for(error), "message": str(error), "at_byte": error.at}
        return _Verified(stored, "damaged", str(error), fault=fault)
    except NoSuchSnapshotError:
        text = "it has been deleted meanwhile"
        return _Verified(stored, "gone", text, fault={"code": "gone", "message": text})
    except TargetError as error:
        fault = {"code": "target", "message": str(error)}
        return _Verified(stored, "unread", str(error), fault=fault)
    records, size = (
        text_format.count(summary.records, "record"),
        text_format.size(summary.size_bytes),
    )
    return _Verified(stored, "whole", f"{records}, {size} unpacked", summary)


async def verify(desk: Desk, names: Sequence[str], *, newest: bool) -> Status:
    """Read snapshots to their end, and say of each whether it is what was written."""
    if names:
        chosen = tuple([await desk.named(name) for name in dict.fromkeys(names)])
    else:
        chosen = await desk.listing()
        if newest:
            ours = snapshot_owner(desk.settings, desk.repository.codec)
            chosen = (tuple(each for each in chosen if each.name.owner == ours) or chosen)[:1]
    if not chosen:
        raise CommandError("no-snapshot", f"{desk.target.where}: there are no snapshots")
    found = []
    for number, stored in enumerate(chosen, start=1):
        desk.target.doing = f"Verifying {number} of {len(chosen)}"
        one = await _verified(desk, stored)
        desk.out.verdict(one.word, f"{stored.name.text}  {one.text}", width=9)
        found.append(one)
    return _judged(desk, found)


def _judged(desk: Desk, found: Sequence[_Verified]) -> Status:
    words = [each.word for each in found]
    # who deletes what is superseded harms nobody
    whole = all(word in {"whole", "gone"} for word in words) and "whole" in words
    desk.out.document(
        {
            "target": desk.target.where,
            "whole": whole,
            "snapshots": [each.document for each in found],
        }
    )
    if whole:
        return Status.OK
    at_fault = {"damaged", "unusable"}.intersection(words)
    return Status.UNREACHABLE if "unread" in words and not at_fault else Status.FAULT


# Showing.


@define(eq=False)
class _Tally:
    """How many records of each sort there are, and how many bytes."""

    counts: dict[RecordKind[Any] | None, int] = field(factory=lambda: dict.fromkeys(_SORTS, 0))
    sizes: dict[RecordKind[Any] | None, int] = field(factory=lambda: dict.fromkeys(_SORTS, 0))

    def see(self, pairs: Sequence[Pair]) -> None:
        """Count records."""
        for name, blob in pairs:
            parsed = parse(name)
            sort = None if parsed is None else parsed.kind
            self.counts[sort] += 1
            self.sizes[sort] += len(name) + len(blob)

    @property
    def document(self) -> dict[str, Any]:
        return {
            key: {"count": self.counts[sort], "bytes": self.sizes[sort]}
            for sort, (key, _) in _SORTS.items()
        }

    @property
    def lines(self) -> list[str]:
        rows = [("RECORDS", "COUNT", "SIZE")]
        for sort, (_, what) in _SORTS.items():
            if self.counts[sort] or sort is not None:
                rows.append((what, f"{self.counts[sort]:,}", text_format.size(self.sizes[sort])))
        total = sum(self.counts.values()), sum(self.sizes.values())
        rows.append(("in all", f"{total[0]:,}", text_format.size(total[1])))
        return text_format.table(rows, right=(1, 2))


async def show(desk: Desk, text: str) -> Status:
    """Say what is in a snapshot: its header, and how much there is of each sort of record."""
    stored = await desk.named(text)
    desk.target.doing = f"Reading {stored.name.text}"
    tally, summary = _Tally(), None
    fault: SnapshotError | None = None
    try:
        summary = await desk.repository.check_usable(stored, tally.see)
    except UnusableError as error:
        summary, fault = error.summary, error
    except SnapshotError as error:
        fault = error
    rows = [("name", text), ("target", desk.target.where)]
    if summary is not None:
        header = summary.header
        written = text_format.moment(header.written_at_ms)
        rows += [("owner", header.owner), ("store", header.kind), ("written", written)]
        if header.api_url is not None:
            rows.append(("server", header.api_url))
    rows.append(("size", text_format.size(stored.size_bytes)))
    for line in text_format.table(rows):
        desk.out.line(line)
    if fault is None:
        desk.out.verdict("whole", "yes", width=9)
    elif summary is not None:
        desk.out.verdict("unusable", str(fault), width=9)
    else:
        desk.out.verdict("damaged", f"{fault}; it begins with:", width=9)
    for line in ("", *tally.lines):
        desk.out.line(line)
    desk.out.document(_shown(desk, stored, tally, summary, fault))
    return Status.OK if fault is None else Status.FAULT


def _shown(
    desk: Desk,
    stored: StoredSnapshot,
    tally: _Tally,
    summary: Summary | None,
    fault: SnapshotError | None,
) -> dict[str, Any]:
    header = None
    if summary is not None:
        header = {
            "owner": summary.header.owner,
            "store": summary.header.kind,
            "fingerprint": summary.header.fingerprint,
            "api_url": summary.header.api_url,
            "written_at": text_format.timestamp(summary.header.written_at_ms),
        }
    found = None
    if fault is not None:
        found = {"code": word_for(fault), "message": str(fault), "at_byte": fault.at}
    return {
        "target": desk.target.where,
        **about(stored.name, stored.size_bytes),
        "whole": fault is None,
        "error": found,
        "header": header,
        "records": tally.document,
    }
