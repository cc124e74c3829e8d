"""Variants of content for clients: JSON with the mirror's URLs, indented or not, in gzip or not."""

from __future__ import annotations

from attrs import field, frozen

from ghmirror_tw.caching.records import Representation
from ghmirror_tw.github import claimed_enterprise_version
from ghmirror_tw.github.json_indenting import IndentingStream, indented
from ghmirror_tw.github.url_rewriting import Rewriter
from ghmirror_tw.http.content_codings import (
    ContentTooLargeError,
    GzipDecompressor,
    UndecodableError,
    compress,
    decoded,
    estimated_size,
)
from ghmirror_tw.proxy.mirror_response import CodedContent
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.runtime.single_flight import SingleFlight
from ghmirror_tw.upstream.byte_budget import FREE_BYTES, ByteBudgets
from ghmirror_tw.upstream.upstream_interface import UpstreamError
from ghmirror_tw.web.client_response import ClientView
from ghmirror_tw.web.content_conversion import (
    ContentStream,
    Conversion,
    compressor,
    converted,
    is_changed_by,
)
from ghmirror_tw.web.variant_cache import Variant, VariantCache, VariantKey

#: The largest unpacked size of content that is neither stored nor streamed, in bytes.
_MOST_UNPACKED: int = 8 * 1024 * 1024
_GZIP = frozenset({b"gzip", b"x-gzip"})


@frozen
class VariantMaker:
    """Makes variants, within a budget and in threads, and caches those of stored content."""

    rewriter: Rewriter
    threads: ContentThreads
    variants: VariantCache
    budgets: ByteBudgets
    _flights: SingleFlight[Variant] = field(
        init=False, eq=False, factory=lambda: SingleFlight(_drop)
    )

    def cached(
        self, body: Representation | CodedContent, view: ClientView | None, *, gzip: bool
    ) -> tuple[bytes, bool] | None:
        """Return what `whole` would, if it is cached."""
        if not isinstance(body, Representation):
            return None
        variant = self.variants.get(_key(body, view, gzip=gzip))
        return None if variant is None else (variant.content_of(body), variant.changed)

    async def whole(
        self, body: Representation | CodedContent, view: ClientView | None, *, gzip: bool
    ) -> tuple[bytes, bool]:
        """Make a variant; return content as it is sent, and whether it differs from GitHub's.

        *view*: None for content that is not rewritten.
        """
        content, changed = await self._make(size_of(body), body, view, gzip=gzip)
        if isinstance(body, Representation):
            variant = Variant(None if content is body.packed else content, changed)
            self.variants.store(_key(body, view, gzip=gzip), variant)
        return content, changed

    async def large(self, body: Representation, view: ClientView) -> Variant:
        """Return the gzip variant of large stored content, made by a single flight."""
        key = VariantKey(body.digest, view.variant_key, gzip=True)
        variant = self.variants.get(key)
        if variant is None:
            variant, _ = await self._flights.join(key, lambda: self._make_large(key, body, view))
        return variant

    def streams(self, view: ClientView) -> tuple[ContentStream, ...]:
        """Return the streams that rewrite JSON for one client."""
        rewriting = self.rewriter.stream(view.base, view.path)
        return (rewriting, IndentingStream()) if view.indents else (rewriting,)

    async def _make(
        self,
        size: int,
        body: Representation | CodedContent,
        view: ClientView | None,
        *,
        gzip: bool,
    ) -> tuple[bytes, bool]:
        """Make a variant of content of *size* bytes, once there is room for it."""
        if size <= FREE_BYTES:
            return self._convert(body, view, gzip)
        # Small variants have some room beyond the limit, so that they do not wait for large ones.
        budget = self.budgets.forms
        fits = budget.held + size <= budget.limit + self.budgets.small.limit
        with budget.charge(size) if fits else await budget.acquire(size):
            return await self.threads.run(size, self._convert, body, view, gzip)

    def _convert(
        self, body: Representation | CodedContent, view: ClientView | None, gzip: bool
    ) -> tuple[bytes, bool]:
        """Return content as it is sent, and whether its bytes differ from GitHub's."""
        packed = _packed(body)
        if view is None and gzip and packed is not None:
            return packed, False
        plain = _plain(body)
        rewritten = plain if view is None else self._rewritten(plain, view)
        changed = rewritten != plain
        if not gzip or not plain:
            return rewritten, changed
        if not changed and packed is not None:
            return packed, False
        return compress(rewritten), changed

    def _rewritten(self, plain: bytes, view: ClientView) -> bytes:
        content = self.rewriter.content(plain, view.base, view.path)
        if view.version:
            content = claimed_enterprise_version.with_installed_version(content, view.version)
        return indented(content) if view.indents else content

    async def _make_large(self, key: VariantKey, body: Representation, view: ClientView) -> Variant:
        with await self.budgets.forms.acquire(len(body.packed)):
            variant = await self.threads.run(body.size, self._convert_large, body, view)
        self.variants.store(key, variant)
        return variant

    def _convert_large(self, body: Representation, view: ClientView) -> Variant:
        """Make the variant of large content, with only a piece of it unpacked at a time."""
        if not is_changed_by(body.packed, self.streams(view)):
            return Variant(None, changed=False, size=body.size)
        size = 0
        rewritten = Conversion(GzipDecompressor(), self.streams(view))
        packs, packed = compressor(), []
        for step in converted(body.packed, rewritten):
            size += len(step)
            packed.append(packs.compress(step))
        packed.append(packs.flush())
        return Variant(b"".join(packed), changed=True, size=size)


def _key(body: Representation, view: ClientView | None, *, gzip: bool) -> VariantKey:
    return VariantKey(body.digest, () if view is None else view.variant_key, gzip)


def _drop(_: object) -> None:
    """Drop a variant that no client waits for any more."""


def size_of(body: Representation | CodedContent) -> int:
    """Return about how many bytes content has when it is unpacked."""
    if isinstance(body, Representation):
        return body.size
    return estimated_size(body.content, body.coding)


def _packed(body: Representation | CodedContent) -> bytes | None:
    if isinstance(body, Representation):
        return body.packed
    return body.content if body.coding in _GZIP else None


def _plain(body: Representation | CodedContent) -> bytes:
    if isinstance(body, Representation):
        return body.content()
    try:
        return decoded(body.content, body.coding, _MOST_UNPACKED)
    except (UndecodableError, ContentTooLargeError) as error:
        raise UpstreamError("broken-answer", repr(error)) from error
