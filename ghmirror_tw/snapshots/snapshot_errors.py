"""Errors of snapshots and of targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ghmirror_tw.snapshots.snapshot_format import Summary


class SnapshotError(Exception):
    """A file cannot be used as a snapshot; *at* is the byte up to which it was valid."""

    def __init__(self, text: str, at: int) -> None:
        super().__init__(f"{text} (at byte {at})")
        self.at = at


class EmptySnapshotError(SnapshotError):
    """The file is empty."""


class NotASnapshotError(SnapshotError):
    """The file does not begin like a snapshot."""


class NewerVersionError(SnapshotError):
    """A later version of the mirror has written it."""


class TruncatedError(SnapshotError):
    """The file ends before the trailer does."""


class DamagedError(SnapshotError):
    """The checksum, a count or the structure is wrong."""


class RecordTooLargeError(SnapshotError):
    """A record claims to be larger than this reader accepts."""


class UnusableError(SnapshotError):
    """The snapshot is undamaged, but none of its records can be restored here."""

    def __init__(self, text: str, at: int, summary: Summary) -> None:
        super().__init__(text, at)
        self.summary = summary


class NoRecordsError(UnusableError):
    """It contains no records."""


class OtherSecretError(UnusableError):
    """Its records are sealed with another `credential_secret`."""


class OtherServerError(UnusableError):
    """Its records are of another server than `api_url`."""


class StoreEmptiedError(Exception):
    """The store lost records during the copy, which is therefore incomplete."""


class TargetError(Exception):
    """An operation on the target failed; the text has no secret."""


class PermanentTargetError(TargetError):
    """A failure that persists: denied, no such bucket, no credentials."""


class FullTargetError(TargetError):
    """The target has no space for another snapshot."""


class NoSuchSnapshotError(TargetError):
    """The snapshot does not exist, or no longer."""
