"""Content in the forms in which it was sent: rewritten for a client's URL, and coded.

Making a form takes more time than everything else that is done for a revalidated answer together,
and clients ask for the same again and again. A form is named by what it is made of, so it never
grows old; who may see it has been decided before.

Large content has gzip forms only. Each is made once for all clients that receive it at the same
time, and is unpacked piece by piece for clients that do not accept gzip.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from attrs import define, field, frozen

from ghmirror_tw.caching.records import Representation

#: What Python needs for a form besides the bytes in it.
_FORM_BYTES: Final = 500
#: One form takes such a part of the room at most.
_LARGEST_PART: Final = 8
#: How many forms of one content are kept. A client that sends another `Host` with each request must
#: not evict the forms of other content.
_MOST_OF_ONE: Final = 8


@frozen
class Variant:
    """Content as it is sent, and whether it is *changed*: other bytes than GitHub's, coded or not.

    *content* is None where it is sent as it is stored. *size*: its bytes without gzip, where that
    is not its own length.
    """

    content: bytes | None = field(repr=False)
    changed: bool
    size: int = 0

    def sent(self, body: Representation) -> bytes:
        """Return the bytes to be sent of *body*."""
        return body.packed if self.content is None else self.content


class VariantKey(NamedTuple):
    """What a form is made of: a representation; what is written in it; gzip or not."""

    digest: str
    names: tuple[Hashable, ...]
    gzip: bool


@define(eq=False)
class VariantCache:
    """Keeps the forms that were used last, of at most *max_size* bytes."""

    max_size: int
    size: int = 0
    _kept: OrderedDict[VariantKey, Variant] = field(init=False, factory=OrderedDict)
    #: The names of those that are kept, by digest, in the order of their last use.
    _names: dict[str, OrderedDict[VariantKey, None]] = field(init=False, factory=dict)
    #: Forms that are being sent, whether there is room to keep them or not.
    _in_use: WeakValueDictionary[VariantKey, Variant] = field(
        init=False, factory=WeakValueDictionary
    )

    def get(self, name: VariantKey) -> Variant | None:
        """Return a form, if it is here."""
        form = self._kept.get(name)
        if form is not None:
            self._kept.move_to_end(name)
            self._names[name.digest].move_to_end(name)
            return form
        return self._in_use.get(name)

    def keep(self, name: VariantKey, form: Variant) -> None:
        """Keep a form, unless it is too large; those used longest ago make room."""
        size = _size_of(name, form)
        self._in_use[name] = form
        if name in self._kept or size > self.max_size // _LARGEST_PART:
            return
        self._kept[name] = form
        self.size += size
        names = self._names.setdefault(name.digest, OrderedDict())
        names[name] = None
        if len(names) > _MOST_OF_ONE:
            self._remove(next(iter(names)))
        while self.size > self.max_size:
            self._remove(next(iter(self._kept)))

    def _remove(self, name: VariantKey) -> None:
        self.size -= _size_of(name, self._kept.pop(name))
        names = self._names[name.digest]
        del names[name]
        if not names:
            del self._names[name.digest]


def _size_of(name: VariantKey, form: Variant) -> int:
    names = sum(len(each) for each in name.names if isinstance(each, bytes))
    return _FORM_BYTES + names + len(form.content or b"")
