"""The cache of variants."""

from __future__ import annotations

import gc
from typing import Any

from twisted.trial.unittest import TestCase

from ghmirror_tw.caching.records import Representation
from ghmirror_tw.http.content_codings import compress
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.web import variant_maker
from ghmirror_tw.web.variant_cache import Variant, VariantCache, VariantKey
from tests.harness.home import Home, open_home

STORED = Representation("digest", Fields(), compress(b"content"), 7)


def name(number: int, *, gzip: bool = True) -> VariantKey:
    return VariantKey(f"digest{number}", (b"http://mirror", b""), gzip)


def test_key_has_content_rewriting_and_coding() -> None:
    """Each difference is another variant."""
    forms = VariantCache(100_000)
    forms.store(name(1), Variant(b"one", changed=True))
    assert forms.get(name(1)) == Variant(b"one", changed=True)
    for other in (name(2), name(1, gzip=False), VariantKey("digest1", (), gzip=True)):
        assert forms.get(other) is None


def test_unchanged_content_is_not_duplicated() -> None:
    """The variant refers to the stored content."""
    assert Variant(None, changed=False).content_of(STORED) is STORED.packed
    assert Variant(b"other", changed=True).content_of(STORED) == b"other"


def test_least_recently_used_are_evicted() -> None:
    """A variant that is too large is not cached."""
    forms = VariantCache(100_000)
    for number in range(30):
        forms.store(name(number), Variant(b"x" * 5000, changed=True))
        assert forms.get(name(0)) is not None
        assert forms.size <= forms.max_size
    gc.collect()  # a form that is being sent is found as well
    assert forms.get(name(1)) is None
    assert forms.get(name(29)) is not None
    before = forms.size
    forms.store(name(29), Variant(b"again", changed=True))
    forms.store(name(99), Variant(b"x" * 50_000, changed=True))
    gc.collect()
    assert forms.get(name(99)) is None
    assert forms.size == before


def test_variants_of_one_content_are_limited() -> None:
    """New hosts evict no variants of other content."""
    forms = VariantCache(1_000_000)
    for number in (1, 2):
        forms.store(name(number), Variant(b"kept", changed=True))
    for number in range(1_000):
        made = VariantKey("digest1", (b"http://host%d" % number, b""), gzip=True)
        forms.store(made, Variant(b"x" * 1_000, changed=True))
        assert forms.get(made) is not None
        assert forms.get(name(1)) is not None
    assert forms.get(name(2)) is not None
    assert forms.size < 20_000


def test_cache_of_size_zero() -> None:
    """Nothing is cached."""
    forms = VariantCache(0)
    forms.store(name(1), Variant(None, changed=False))
    gc.collect()  # a form that is being sent is found as well
    assert forms.get(name(1)) is None


class Views(TestCase):
    """A mirror with clients that use different hosts."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github
        self.packed = 0
        pack_it = compress

        def packs(content: bytes) -> bytes:
            self.packed += 1
            return pack_it(content)

        self.patch(variant_maker, "compress", packs)

    async def get(self, **fields: str) -> Any:
        got = await self.home.get("/thing", token="alice-1", headers=fields)
        return got.json

    async def test_each_host_gets_its_own_variant(self) -> None:
        """It is made once, and anew when the content changes."""
        for made, number in ((2, 1), (4, 2)):
            url = f"{self.github.api_url}/{number}"
            self.github.put("/thing", {"url": url})
            for _ in range(3):
                for host in ("one.example", "two.example"):
                    view = {"url": f"http://{host}/{number}"}
                    assert await self.get(Host=host) == view
                    assert await self.get(**{"Host": host, "Accept-Encoding": "gzip"}) == view
            assert self.packed == made

    async def test_unchanged_content_is_sent_as_stored(self) -> None:
        """With GitHub's own tag."""
        self.github.put("/thing", {"a": 1})
        for _ in range(3):
            got = await self.home.get(
                "/thing", token="alice-1", headers={"Accept-Encoding": "gzip"}
            )
            assert got.json == {"a": 1}
        assert self.packed == 0
