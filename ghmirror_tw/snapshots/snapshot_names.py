"""The names of snapshots at all targets."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import frozen

_OWNER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", re.ASCII)
_NAME: Final = re.compile(
    rf"ghmirror-(?P<owner>{_OWNER.pattern})-(?P<time>\d{{8}}T\d{{6}})\.(?P<ms>\d{{3}})Z\.snap",
    re.ASCII,
)
_TIME: Final = "%Y%m%dT%H%M%S"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def owner_of(text: str) -> str:
    """Return an owner for *text*, such as the name of a host or a store.

    Characters that are not valid in all file names are replaced; then a part of the hash of *text*
    is appended, so that different texts have different owners.
    """
    if _OWNER.fullmatch(text):
        return text
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text, flags=re.ASCII).strip("._-")[:60] or "owner"
    return f"{kept}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@frozen(order=True)
class SnapshotName:
    """The owner and the time (ms since the epoch); names of an owner sort by time."""

    owner: str
    at_ms: int

    def __attrs_post_init__(self) -> None:
        if not _OWNER.fullmatch(self.owner):
            raise ValueError("the owner is not valid in a name; see owner_of")

    @property
    def text(self) -> str:
        """The name as text."""
        at = _EPOCH + timedelta(milliseconds=self.at_ms)
        return f"ghmirror-{self.owner}-{at.strftime(_TIME)}.{self.at_ms % 1000:03}Z.snap"

    @classmethod
    def parse(cls, text: str) -> SnapshotName | None:
        """Return the parsed name, or None for other files, which are never changed."""
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        try:
            at = datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC)
        except ValueError:
            return None
        seconds = (at - _EPOCH) // timedelta(seconds=1)
        return cls(match["owner"], seconds * 1000 + int(match["ms"])) if seconds >= 0 else None
