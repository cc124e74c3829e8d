"""`ghmirror snapshot list`, `verify` and `show`: reads snapshots and reports on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from attrs import define, field

from ghmirror_tw.cli import value_formatting
from ghmirror_tw.cli.command_errors import CommandError, Status
from ghmirror_tw.cli.command_runner import snapshot_error_code
from ghmirror_tw.cli.snapshot_context import SnapshotContext
from ghmirror_tw.snapshots.snapshot_errors import (
    NoSuchSnapshotError,
    SnapshotError,
    TargetError,
    UnusableError,
)
from ghmirror_tw.snapshots.snapshot_format import Pair, Summary
from ghmirror_tw.snapshots.snapshot_names import SnapshotName
from ghmirror_tw.snapshots.target_interface import StoredSnapshot
from ghmirror_tw.store.record_kinds import ENTRY, GRANT, REFUSAL, REPRESENTATION, RecordKind
from ghmirror_tw.store.record_names import parse
from ghmirror_tw.wiring.snapshot_parts import snapshot_owner

_SORTS: Final[dict[RecordKind[Any] | None, tuple[str, str]]] = {
    REPRESENTATION: ("representations", "representations"),
    GRANT: ("grants", "grants"),
    ENTRY: ("recency_entries", "entries of recency lists"),
    REFUSAL: ("refusals", "refusals of a key"),
    None: ("unknown", "of an unknown kind"),
}
_UNKNOWN_COUNTS: Final = {"records": None, "content_bytes": None}


def snapshot_fields(name: SnapshotName, size_bytes: int) -> dict[str, Any]:
    """Return the JSON fields of any snapshot."""
    return {
        "name": name.text,
        "owner": name.owner,
        "written_at": value_formatting.timestamp(name.at_ms),
        "size_bytes": size_bytes,
    }


async def show_list(context: SnapshotContext) -> Status:
    """List the snapshots at the target, newest first."""
    out, listed = context.out, await context.listing()
    if not listed and not out.as_json:
        out.note(f"{context.target.where}: there are no snapshots")
    if listed:
        rows = [("NAME", "OWNER", "TIME", "SIZE")]
        for name, size_bytes in ((each.name, each.size_bytes) for each in listed):
            rows.append(
                (
                    name.text,
                    name.owner,
                    value_formatting.moment(name.at_ms),
                    value_formatting.size(size_bytes),
                )
            )
        for line in value_formatting.table(rows, right=(3,)):
            out.line(line)
    snapshots = [snapshot_fields(each.name, each.size_bytes) for each in listed]
    out.document({"target": context.target.where, "snapshots": snapshots})
    return Status.OK


@define(eq=False)
class VerifiedSnapshot:
    """The result of verifying one snapshot: a word for people, and *fault* as JSON."""

    stored: StoredSnapshot
    word: str
    text: str
    summary: Summary | None = None
    fault: dict[str, Any] | None = None

    @property
    def document(self) -> dict[str, Any]:
        """The result as JSON."""
        counted: dict[str, Any] = dict(_UNKNOWN_COUNTS)
        if self.summary is not None:
            counted = {
                "records": self.summary.records,
                "content_bytes": self.summary.size_bytes,
            }
        return {
            **snapshot_fields(self.stored.name, self.stored.size_bytes),
            "whole": self.fault is None,
            **counted,
            "error": self.fault,
        }


async def _verify_one(context: SnapshotContext, stored: StoredSnapshot) -> VerifiedSnapshot:
    try:
        summary = await context.repository.check_usable(stored)
    except UnusableError as error:
        fault = {"code": snapshot_error_code(error), "message": str(error), "at_byte": error.at}
        return VerifiedSnapshot(stored, "unusable", str(error), error.summary, fault)
    except SnapshotError as error:
        fault = {"code": snapshot_error_code(error), "message": str(error), "at_byte": error.at}
        return VerifiedSnapshot(stored, "damaged", str(error), fault=fault)
    except NoSuchSnapshotError:
        text = "it was deleted meanwhile"
        return VerifiedSnapshot(stored, "gone", text, fault={"code": "gone", "message": text})
    except TargetError as error:
        fault = {"code": "target", "message": str(error)}
        return VerifiedSnapshot(stored, "unread", str(error), fault=fault)
    records, size = (
        value_formatting.count(summary.records, "record"),
        value_formatting.size(summary.size_bytes),
    )
    return VerifiedSnapshot(stored, "whole", f"{records}, {size} unpacked", summary)


async def verify(context: SnapshotContext, names: Sequence[str], *, newest: bool) -> Status:
    """Read snapshots to their end, and report whether each is usable."""
    if names:
        chosen = tuple([await context.find(name) for name in dict.fromkeys(names)])
    else:
        chosen = await context.listing()
        if newest:
            owner = snapshot_owner(context.settings, context.repository.codec)
            chosen = (tuple(each for each in chosen if each.name.owner == owner) or chosen)[:1]
    if not chosen:
        raise CommandError("no-snapshot", f"{context.target.where}: there are no snapshots")
    results = []
    for number, stored in enumerate(chosen, start=1):
        context.target.task = f"Verifying {number} of {len(chosen)}"
        result = await _verify_one(context, stored)
        context.out.verdict(result.word, f"{stored.name.text}  {result.text}", width=9)
        results.append(result)
    return _report(context, results)


def _report(context: SnapshotContext, results: Sequence[VerifiedSnapshot]) -> Status:
    words = [each.word for each in results]
    # A snapshot that was deleted meanwhile was superseded, which is no fault.
    whole = all(word in {"whole", "gone"} for word in words) and "whole" in words
    context.out.document(
        {
            "target": context.target.where,
            "whole": whole,
            "snapshots": [each.document for each in results],
        }
    )
    if whole:
        return Status.OK
    at_fault = {"damaged", "unusable"}.intersection(words)
    return Status.UNREACHABLE if "unread" in words and not at_fault else Status.FAULT


@define(eq=False)
class RecordCounts:
    """The number and the bytes of records of each kind."""

    counts: dict[RecordKind[Any] | None, int] = field(factory=lambda: dict.fromkeys(_SORTS, 0))
    sizes: dict[RecordKind[Any] | None, int] = field(factory=lambda: dict.fromkeys(_SORTS, 0))

    def add(self, pairs: Sequence[Pair]) -> None:
        """Count records."""
        for name, blob in pairs:
            parsed = parse(name)
            sort = None if parsed is None else parsed.kind
            self.counts[sort] += 1
            self.sizes[sort] += len(name) + len(blob)

    @property
    def document(self) -> dict[str, Any]:
        """The counts as JSON."""
        return {
            key: {"count": self.counts[sort], "bytes": self.sizes[sort]}
            for sort, (key, _) in _SORTS.items()
        }

    @property
    def lines(self) -> list[str]:
        """The counts as lines of a table."""
        rows = [("RECORDS", "COUNT", "SIZE")]
        for sort, (_, what) in _SORTS.items():
            if self.counts[sort] or sort is not None:
                rows.append(
                    (what, f"{self.counts[sort]:,}", value_formatting.size(self.sizes[sort]))
                )
        total = sum(self.counts.values()), sum(self.sizes.values())
        rows.append(("total", f"{total[0]:,}", value_formatting.size(total[1])))
        return value_formatting.table(rows, right=(1, 2))


async def show(context: SnapshotContext, text: str) -> Status:
    """Show the header of a snapshot, and the number of its records of each kind."""
    stored = await context.find(text)
    context.target.task = f"Reading {stored.name.text}"
    counts, summary = RecordCounts(), None
    fault: SnapshotError | None = None
    try:
        summary = await context.repository.check_usable(stored, counts.add)
    except UnusableError as error:
        summary, fault = error.summary, error
    except SnapshotError as error:
        fault = error
    rows = [("name", text), ("target", context.target.where)]
    if summary is not None:
        header = summary.header
        written = value_formatting.moment(header.written_at_ms)
        rows += [("owner", header.owner), ("store", header.kind), ("written", written)]
        if header.api_url is not None:
            rows.append(("server", header.api_url))
    rows.append(("size", value_formatting.size(stored.size_bytes)))
    for line in value_formatting.table(rows):
        context.out.line(line)
    if fault is None:
        context.out.verdict("whole", "yes", width=9)
    elif summary is not None:
        context.out.verdict("unusable", str(fault), width=9)
    else:
        context.out.verdict("damaged", f"{fault}; its beginning has:", width=9)
    for line in ("", *counts.lines):
        context.out.line(line)
    context.out.document(_show_document(context, stored, counts, summary, fault))
    return Status.OK if fault is None else Status.FAULT


def _show_document(
    context: SnapshotContext,
    stored: StoredSnapshot,
    counts: RecordCounts,
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
            "written_at": value_formatting.timestamp(summary.header.written_at_ms),
        }
    found = None
    if fault is not None:
        found = {"code": snapshot_error_code(fault), "message": str(fault), "at_byte": fault.at}
    return {
        "target": context.target.where,
        **snapshot_fields(stored.name, stored.size_bytes),
        "whole": fault is None,
        "error": found,
        "header": header,
        "records": counts.document,
    }
