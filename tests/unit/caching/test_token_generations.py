"""Invalidation: writes, and the generations that they begin."""

from __future__ import annotations

from ghmirror_tw.caching import (
    token_generations,
)
from ghmirror_tw.caching.token_generations import Generations
from ghmirror_tw.github import graphql
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request


def test_a_write_begins_a_generation() -> None:
    """For its credential alone."""
    generations = Generations()
    before = generations.of("a"), generations.of("b")
    generations.begin("a")
    assert generations.of("a") > before[0]
    assert generations.of("b") == before[1]


def test_another_epoch_begins_a_generation() -> None:
    """Where one was seen before, even none; not one that this replica began itself."""
    generations = Generations()
    first = generations.of("a")
    generations.note_epoch("a", None)
    assert generations.of("a") == first
    generations.note_own_epoch("a", b"1")
    generations.note_epoch("a", b"1")
    assert generations.of("a") == first
    generations.note_epoch("a", b"2")
    second = generations.of("a")
    assert second > first
    generations.note_epoch("a", None)
    assert generations.of("a") > second


def test_a_generation_never_recurs() -> None:
    """Not even that of a credential which was forgotten."""
    generations = Generations(2)
    seen = [generations.of("a")]
    for credential in "abcabcc":
        generations.begin(credential)
        seen.append(generations.of("a"))
    for credential in "xyz":
        generations.note_epoch(credential, None)
        seen.append(generations.of("a"))
    assert seen == sorted(seen)
    assert len(generations.by_token) == 2
    last = generations.of("a")
    generations.begin("a")
    assert generations.of("a") > last


def test_unknown_credentials_share_their_generations() -> None:
    """And use no space; a known one has its own."""
    generations = Generations(1)
    generations.begin("real")
    before = generations.of("real")
    for credential in "abc":
        first = generations.of(credential, accepted=False)
        generations.note_epoch(credential, None, accepted=False)
        generations.note_own_epoch(credential, b"1", accepted=False)
        generations.begin(credential, accepted=False)
        assert generations.of(credential, accepted=False) > first
    assert generations.of("real") == before


def lines(*pairs: tuple[bytes, bytes]) -> Fields:
    return Fields(pairs)


def test_unsafe_methods_are_writes() -> None:
    """For GraphQL, path and content decide."""
    assert token_generations.is_write(Request(b"DELETE", b"/x", lines()))
    assert not token_generations.is_write(Request(b"OPTIONS", b"/x", lines()))
    assert graphql.is_graphql(Request(b"POST", b"/graphql?x", lines()))
    assert not graphql.is_graphql(Request(b"POST", b"/graphqlx", lines()))
    assert graphql.is_mutation(b'{"query":"mutation {x}"}', lines())
    assert not graphql.is_mutation(b'{"query":"{x}"}', lines())
