"""How snapshots are called, wherever they are kept."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import frozen

#: So many bytes are read at once.
CHUNK_BYTES: Final = 256 * 1024

#: What a write has left behind is a crash's when it is older than this, in seconds.
LEFTOVER_S: Final = 86_400.0

_OWNER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", re.ASCII)
_NAME: Final = re.compile(
    rf"ghmirror-(?P<owner>{_OWNER.pattern})-(?P<time>\d{{8}}T\d{{6}})\.(?P<ms>\d{{3}})Z\.snap",
    re.ASCII,
)
_TIME: Final = "%Y%m%dT%H%M%S"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def owner_of(text: str) -> str:
    """Return how *text*, such as a host's or a store's name, is written as an owner.

    What may stand in file names everywhere stays as it is; anything else is replaced, and a part
    of its hash keeps different texts apart.
    """
    if _OWNER.fullmatch(text):
        return text
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text, flags=re.ASCII).strip("._-")[:60] or "owner"
    return f"{kept}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@frozen(order=True)
class SnapshotName:
    """Whose snapshot, and of when (ms since the epoch); names of an owner sort by time."""

    owner: str
    at_ms: int

    def __attrs_post_init__(self) -> None:
        if not _OWNER.fullmatch(self.owner):
            raise ValueError("the owner can't stand in a name; see owner_of")

    @property
    def text(self) -> str:
        """The name as it is written."""
        at = _EPOCH + timedelta(milliseconds=self.at_ms)
        return f"ghmirror-{self.owner}-{at.strftime(_TIME)}.{self.at_ms % 1000:03}Z.snap"

    @classmethod
    def parse(cls, text: str) -> SnapshotName | None:
        """Return the name that *text* is, or None: then it is not ours, and is never touched."""
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        try:
            at = datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC)
        except ValueError:
            return None
        seconds = (at - _EPOCH) // timedelta(seconds=1)
        return cls(match["owner"], seconds * 1000 + int(match["ms"])) if seconds >= 0 else None


@frozen
class Stored:
    """A snapshot at a target; *written_at*: when, in seconds, by the clock of the target."""

    name: SnapshotName
    size_bytes: int
    written_at: float = 0.0

    @property
    def order(self) -> tuple[float, int, str]:
        """The key to sort by: the target's time, and the name where that is equal.

        The time in a name is that of a replica, whose clock may be hours ahead.
        """
        return (self.written_at, self.name.at_ms, self.name.owner)


def newest_first(stored: list[Stored]) -> tuple[Stored, ...]:
    """Return snapshots of all owners, the newest first."""
    return tuple(sorted(stored, key=lambda each: each.order, reverse=True))
