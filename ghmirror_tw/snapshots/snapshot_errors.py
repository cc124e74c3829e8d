"""What can be wrong with a snapshot, and with the place where snapshots are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ghmirror_tw.snapshots.snapshot_format import Summary


class SnapshotError(Exception):
    """A file can't be used as a snapshot; *at* is the byte up to which it was understood."""

    def __init__(self, what: str, at: int) -> None:
        super().__init__(f"{what} (at byte {at})")
        self.at = at


class EmptySnapshotError(SnapshotError):
    """There is nothing in the file."""


class NotASnapshotError(SnapshotError):
    """The file is something else: it does not begin as snapshots do."""


class NewerVersionError(SnapshotError):
    """A later version of the mirror has written it."""


class TruncatedError(SnapshotError):
    """The file ends before the trailer does."""


class DamagedError(SnapshotError):
    """It is not what was written: the checksum, a count or the structure is wrong."""


class RecordTooLargeError(SnapshotError):
    """A record claims to be larger than this reader takes."""


class UnusableError(SnapshotError):
    """The file is a whole snapshot, but no record of it can be restored here.

    *summary* is that of its content.
    """

    def __init__(self, what: str, at: int, summary: Summary) -> None:
        super().__init__(what, at)
        self.summary = summary


class NoRecordsError(UnusableError):
    """It holds no records."""


class OtherSecretError(UnusableError):
    """Its records are sealed with another `credential_secret`."""


class OtherServerError(UnusableError):
    """Its records are of another server than `api_url`."""


class StoreEmptiedError(Exception):
    """The store lost records while it was copied, so that the copy is not whole."""


class TargetError(Exception):
    """The target did not do what was requested; the text holds no secret."""


class PermanentTargetError(TargetError):
    """A failure that does not pass by itself: denied, no such bucket, no credentials."""


class FullTargetError(TargetError):
    """There is no room for another snapshot."""


class NoSuchSnapshotError(TargetError):
    """There is no such snapshot, or not any more."""
