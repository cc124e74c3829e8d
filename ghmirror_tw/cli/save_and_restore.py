"""Commands that make snapshots of the store, and fill it from them: save, restore."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ghmirror_tw.cli import text_format
from ghmirror_tw.cli.context import Desk
from ghmirror_tw.cli.exit_status import CommandError, Status
from ghmirror_tw.cli.inspect_snapshots import about
from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.snapshots.lease import LEASE_S, RESTORE, run_with_lease
from ghmirror_tw.snapshots.restorer import restore_records
from ghmirror_tw.snapshots.snapshot_repository import CheckedSnapshot
from ghmirror_tw.wiring.snapshot_parts import build_saver, snapshot_owner


async def save(desk: Desk) -> Status:
    """Make a snapshot of the store in Redis, if no mirror is at it."""
    if desk.settings.cache.backend != "redis":
        every = text_format.period(desk.settings.snapshot.interval)
        what = f"the mirror saves it itself, every {every} and when it stops"
        raise _in_memory(f"nothing outside can save it; {what}")
    unfilled: list[bool] = []
    began = desk.reactor.seconds()
    async with desk.archive() as archive:
        saves = build_saver(
            desk.reactor,
            desk.settings,
            archive,
            desk.repository,
            desk.replica,
            lambda: unfilled.append(True),
            desk.now,
        )
        desk.target.doing = "Saving"
        saved = await saves.save()
    if saved is None and saves.is_empty:
        raise CommandError("no-records", "the store holds no records; no snapshot was written")
    if saved is None:
        raise _unfilled() if unfilled else await _not_our_turn(desk)
    if saved.left_out:
        desk.out.warn(f"{text_format.count(saved.left_out, 'record')} too large for a snapshot")
    size = text_format.size(saved.size_bytes)
    desk.out.line(
        f"Saved {text_format.count(saved.records, 'record')} ({size}) as {saved.name.text}"
    )
    desk.out.document(
        {
            "target": desk.target.where,
            **about(saved.name, saved.size_bytes),
            "records": saved.records,
            "left_out": saved.left_out,
            "seconds": round(desk.reactor.seconds() - began, 3),
            "warnings": desk.out.warnings,
        }
    )
    return Status.OK


def _in_memory(why: str) -> CommandError:
    text = f"[cache] backend: it is memory, a store inside the mirror's own process: {why}"
    return CommandError("memory-store", text, Status.USAGE)


def _unfilled() -> CommandError:
    text = (
        "the store has not been filled yet, and a copy of what little is there would stand before "
        "the one to fill it from; a mirror fills it, or `ghmirror snapshot restore`"
    )
    return CommandError("not-filled", text)


async def _not_our_turn(desk: Desk) -> CommandError:
    """Return that somebody else saves the store, and what they have saved last."""
    recently = text_format.period(desk.settings.snapshot.interval)
    text = f"another replica has the lease: it saves the store now, or has within {recently}"
    ours = snapshot_owner(desk.settings, desk.repository.codec)
    for stored in await desk.target.listing():
        if stored.name.owner == ours:
            ago = text_format.period(max(0.0, desk.now() - stored.name.at_ms / 1000))
            text += f"; the newest snapshot is {stored.name.text}, {ago} old"
            break
    return CommandError("lease", text)


async def restore(desk: Desk, text: str | None) -> Status:
    """Fill the store in Redis from a snapshot, over nothing newer; then mark it as filled."""
    if desk.settings.cache.backend != "redis":
        what = "a mirror fills it itself when it starts, from the newest usable snapshot"
        raise _in_memory(f"nothing outside can fill it; {what}")
    began = desk.reactor.seconds()
    async with desk.archive() as archive:
        await archive.mark()  # before much is read for nothing
        whole = await _chosen(desk, text)
        desk.target.doing = "Restoring"
        restored = await _put_back(desk, archive, whole)
    name, records = whole.stored.name.text, whole.summary.records
    desk.out.line(f"Restored {restored:,} of {text_format.count(records, 'record')} from {name}")
    if not restored:
        desk.out.line("They have expired, or the store holds them already.")
    elif restored < records:
        desk.out.line("The others have expired, or the store holds them already.")
    desk.out.document(
        {
            "target": desk.target.where,
            **about(whole.stored.name, whole.stored.size_bytes),
            "records": records,
            "restored": restored,
            "seconds": round(desk.reactor.seconds() - began, 3),
            "warnings": desk.out.warnings,
        }
    )
    return Status.OK if restored else Status.FAULT


async def _chosen(desk: Desk, text: str | None) -> CheckedSnapshot:
    """Return the snapshot of that name if it is whole, or else what a mirror would take."""
    desk.target.doing = "Checking"
    if text is not None:
        stored = await desk.named(text)
        return CheckedSnapshot(stored, await desk.repository.check_usable(stored))
    await desk.listing()
    found = await desk.repository.newest_usable(
        snapshot_owner(desk.settings, desk.repository.codec)
    )
    if found is None:
        raise CommandError("no-snapshot", f"{desk.target.where}: there is no usable snapshot")
    return found


async def _put_back(desk: Desk, archive: Any, whole: CheckedSnapshot) -> int:
    if not await archive.acquire_lease(RESTORE, desk.replica, LEASE_S):
        raise CommandError("lease", "another replica has the lease: it fills the store now")
    try:
        return await run_with_lease(
            desk.reactor, archive, RESTORE, desk.replica, _fill(desk, archive, whole)
        )
    finally:
        with suppress(RedisUnavailableError):
            await archive.release_lease(RESTORE, desk.replica)


async def _fill(desk: Desk, archive: Any, whole: CheckedSnapshot) -> int:
    restored = await restore_records(archive, desk.repository, whole)
    if restored:
        await archive.mark_filled()
    return restored
