"""A request as a value, and the error for one that cannot be forwarded."""

from __future__ import annotations

from typing import Final

from attrs import field, frozen

from ghmirror_tw.http.fields import Fields
from ghmirror_tw.runtime.frozen_values import frozen_value

#: The methods that retrieve a representation, or its fields (RFC 9110, sections 9.3.1 and 9.3.2).
READ_METHODS: Final = frozenset({b"GET", b"HEAD"})
#: The methods that request no change (RFC 9110, section 9.2.1).
SAFE_METHODS: Final = READ_METHODS | {b"OPTIONS", b"TRACE"}


@frozen
class BadRequestError(Exception):
    """A request that must not be forwarded; *message* names its fault."""

    message: str


@frozen_value
class Request:
    """A request of a client to GitHub.

    *method* and *target* are byte for byte the client's, *target* without the `/api/v3` prefix;
    *fields* are its end-to-end fields, without `Host`.
    """

    method: bytes
    target: bytes
    fields: Fields = field(repr=False)
    #: The target without its query.
    path: bytes = field(init=False, eq=False, repr=False)
    #: The value of `Authorization`; None: a request without a credential.
    authorization: bytes | None = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "path", self.target.partition(b"?")[0])
        object.__setattr__(self, "authorization", self.fields.get(b"authorization"))
