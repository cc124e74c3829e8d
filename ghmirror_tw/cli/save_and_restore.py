"""`ghmirror snapshot save` and `restore`: copies the store in Redis to a snapshot, and back."""

from __future__ import annotations

from typing import Any

from ghmirror_tw.cli import value_formatting
from ghmirror_tw.cli.command_errors import CommandError, Status
from ghmirror_tw.cli.inspect_snapshots import snapshot_fields
from ghmirror_tw.cli.snapshot_context import SnapshotContext
from ghmirror_tw.snapshots.lease import LEASE_S, RESTORE, release, run_with_lease
from ghmirror_tw.snapshots.restorer import restore_records
from ghmirror_tw.snapshots.snapshot_repository import CheckedSnapshot, SavedSnapshot
from ghmirror_tw.wiring.snapshot_parts import build_saver, snapshot_owner


async def save(context: SnapshotContext) -> Status:
    """Save the store in Redis as a snapshot, unless a mirror has the lease."""
    if context.settings.cache.backend != "redis":
        every = value_formatting.period(context.settings.snapshot.interval)
        raise _memory_store(f"only the mirror can save it, every {every} and at shutdown")
    unfilled: list[bool] = []
    began = context.reactor.seconds()
    async with context.archive() as archive:
        saver = build_saver(
            context.reactor,
            context.settings,
            archive,
            context.repository,
            context.replica,
            lambda: unfilled.append(True),
            context.now,
        )
        context.target.task = "Saving"
        saved = await saver.save()
    if saved is None and saver.is_empty:
        raise CommandError("no-records", "the store has no records; no snapshot was written")
    if saved is None:
        raise _not_restored() if unfilled else await _lease_error(context)
    _show(context, saved, context.reactor.seconds() - began)
    return Status.OK


def _show(context: SnapshotContext, saved: SavedSnapshot, took_s: float) -> None:
    records = value_formatting.count(saved.records, "record")
    if saved.left_out:
        left_out = value_formatting.count(saved.left_out, "record")
        context.out.warn(f"{left_out} too large for a snapshot")
    size = value_formatting.size(saved.size_bytes)
    context.out.line(f"Saved {records} ({size}) as {saved.name.text}")
    context.out.document(
        {
            "target": context.target.where,
            **snapshot_fields(saved.name, saved.size_bytes),
            "records": saved.records,
            "left_out": saved.left_out,
            "seconds": round(took_s, 3),
            "warnings": context.out.warnings,
        }
    )


def _memory_store(reason: str) -> CommandError:
    text = f"[cache] backend: memory is a store inside the process of the mirror: {reason}"
    return CommandError("memory-store", text, Status.USAGE)


def _not_restored() -> CommandError:
    text = (
        "the store is not restored yet, and a snapshot of its few records would be newer than the "
        "one to restore from; a mirror restores it, or `ghmirror snapshot restore`"
    )
    return CommandError("not-filled", text)


async def _lease_error(context: SnapshotContext) -> CommandError:
    """Return the error that another replica has the lease, with the newest snapshot."""
    recently = value_formatting.period(context.settings.snapshot.interval)
    text = (
        f"another replica has the lease: it saves the store now, or has done so within {recently}"
    )
    owner = snapshot_owner(context.settings, context.repository.codec)
    for stored in await context.target.listing():
        if stored.name.owner == owner:
            ago = value_formatting.period(max(0.0, context.now() - stored.name.at_ms / 1000))
            text += f"; the newest snapshot is {stored.name.text}, {ago} old"
            break
    return CommandError("lease", text)


async def restore(context: SnapshotContext, text: str | None) -> Status:
    """Restore records that are not in the store or older there, and mark it as restored."""
    if context.settings.cache.backend != "redis":
        raise _memory_store("only the mirror can restore it, at its start")
    began = context.reactor.seconds()
    async with context.archive() as archive:
        await archive.mark()  # fails early if Redis is unavailable
        whole = await _chosen(context, text)
        context.target.task = "Restoring"
        restored = await _restore_with_lease(context, archive, whole)
    name, records = whole.stored.name.text, whole.summary.records
    context.out.line(
        f"Restored {restored:,} of {value_formatting.count(records, 'record')} from {name}"
    )
    if not restored:
        context.out.line("They have expired, or the store has them already.")
    elif restored < records:
        context.out.line("The others have expired, or the store has them already.")
    context.out.document(
        {
            "target": context.target.where,
            **snapshot_fields(whole.stored.name, whole.stored.size_bytes),
            "records": records,
            "restored": restored,
            "seconds": round(context.reactor.seconds() - began, 3),
            "warnings": context.out.warnings,
        }
    )
    return Status.OK if restored else Status.FAULT


async def _chosen(context: SnapshotContext, text: str | None) -> CheckedSnapshot:
    """Return the snapshot with that name if it is usable, or else the one a mirror would use."""
    context.target.task = "Checking"
    if text is not None:
        stored = await context.find(text)
        return CheckedSnapshot(stored, await context.repository.check_usable(stored))
    await context.listing()
    found = await context.repository.newest_usable(
        snapshot_owner(context.settings, context.repository.codec)
    )
    if found is None:
        raise CommandError("no-snapshot", f"{context.target.where}: there is no usable snapshot")
    return found


async def _restore_with_lease(
    context: SnapshotContext, archive: Any, whole: CheckedSnapshot
) -> int:
    if not await archive.acquire_lease(RESTORE, context.replica, LEASE_S):
        raise CommandError("lease", "another replica has the lease: it restores the store now")
    try:
        return await run_with_lease(
            context.reactor, archive, RESTORE, context.replica, _restore(context, archive, whole)
        )
    finally:
        await release(archive, RESTORE, context.replica)


async def _restore(context: SnapshotContext, archive: Any, whole: CheckedSnapshot) -> int:
    restored = await restore_records(archive, context.repository, whole)
    if restored:
        await archive.mark_filled()
    return restored
