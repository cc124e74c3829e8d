"""A response as one client receives it, and the properties of its request that select a variant."""

from __future__ import annotations

from collections.abc import Hashable

from attrs import field

from ghmirror_tw.github.json_indenting import gets_indented_json
from ghmirror_tw.github.url_rewriting import BaseUrls, opaque_names
from ghmirror_tw.http.content_codings import accepts_gzip
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.runtime.frozen_values import frozen_value
from ghmirror_tw.upstream.in_memory_content import InMemoryContent
from ghmirror_tw.upstream.upstream_interface import IncomingContent
from ghmirror_tw.web.content_conversion import Conversion
from ghmirror_tw.web.variant_cache import Variant


@frozen_value
class ClientView:
    """The properties of a request that select the variant of its response.

    *base*: the URLs that replace GitHub's. *fields* are those of the request. *version*: the
    version of an Enterprise Server that is added to the content; empty: none.
    """

    method: bytes
    base: BaseUrls
    fields: Fields = field(repr=False)
    version: bytes = b""
    #: The path of the request, as GitHub receives it.
    path: bytes = b""
    #: Whether GitHub received the client's own `User-Agent`. GitHub then indents JSON itself where
    #: it does so for that client; responses of GraphQL, for example, are never indented.
    passthrough: bool = False

    @property
    def variant_key(self) -> tuple[Hashable, ...]:
        """All values that the variant of JSON content depends on."""
        base = self.base
        return base.api, base.uploads, self.version, opaque_names(self.path), self.indents

    @property
    def is_head(self) -> bool:
        """Whether the method is HEAD."""
        return self.method == b"HEAD"

    @property
    def indents(self) -> bool:
        """Whether JSON is indented by the mirror."""
        return not self.passthrough and gets_indented_json(self.fields)

    @property
    def gzip(self) -> bool:
        """Whether the client accepts gzip."""
        return accepts_gzip(self.fields)


@frozen_value
class ClientResponse:
    """A response as one client receives it: *content* in full, or *incoming* through *conversion*.

    *length*: the `Content-Length`, where known. *variant*: the variant that is sent. While it is
    referenced here, `VariantCache` has it for other clients. *rewritten*: its content was made for
    clients, and is not the stored or received one.
    """

    status: int
    fields: Fields
    content: bytes = field(default=b"", repr=False)
    length: int | None = None
    incoming: IncomingContent | None = None
    conversion: Conversion | None = None
    variant: Variant | None = None
    rewritten: bool = False

    @property
    def held(self) -> bytes:
        """The content, or the part of it that is held in memory."""
        incoming = self.incoming
        return incoming.content if isinstance(incoming, InMemoryContent) else self.content
