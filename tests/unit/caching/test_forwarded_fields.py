"""The fields that are forwarded, in both directions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.caching import forwarded_fields
from ghmirror_tw.caching.forwarded_fields import (
    DEFAULT_USER_AGENT,
    canonical_request_fields,
    forwarded_request_fields,
)
from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.http.fields import Fields


@pytest.mark.parametrize(
    "name",
    [
        *(b"Forwarded", b"X-Forwarded-Host", b"X-Forwarded-Anything", b"X-Original-URL"),
        *(b"X-Original-Host", b"X-Rewrite-URL", b"X-HTTP-Method-Override", b"X-HTTP-Method"),
        *(b"X_Forwarded_Host", b"X_HTTP-Method_Override"),
        *(b"X-Method-Override", b"X-Real-IP", b"Cookie", b"Host", b"Connection", b"Expect"),
    ],
)
def test_fields_that_are_never_forwarded(name: bytes) -> None:
    """By which a server might prefer another host, path, method or client to the request's own."""
    kept = ((b"x-forwarded", b"1"), (b"accept-language", b"de"))
    assert forwarded_request_fields(Fields((*kept, (name, b"x")))) == Fields(kept)


def test_a_storable_request_is_canonical() -> None:
    """Fields of the key, the credential, agent and coding; in lower case, and nothing else."""
    fields = Fields(
        (
            (b"Accept", b"a"),
            (b"Accept-Encoding", b"br"),
            (b"Accept-Language", b"de"),
            (b"Authorization", b"token x"),
            (b"Cache-Control", b"no-cache"),
            (b"If-None-Match", b'"a"'),
            (b"Origin", b"https://a.test"),
            (b"User-Agent", b"curl/8"),
            (b"User-Agent", b"more"),
            (b"X-GitHub-Api-Version", b"2022-11-28"),
            (b"X-GitHub-Next-Global-ID", b"1"),
            (b"X-GitHub-OTP", b"1"),
            (b"X-Requested-With", b"b"),
        )
    )
    assert canonical_request_fields(fields) == Fields(
        (
            (b"accept", b"a"),
            (b"authorization", b"token x"),
            (b"x-github-api-version", b"2022-11-28"),
            (b"x-github-next-global-id", b"1"),
            (b"x-requested-with", b"b"),
            (b"user-agent", b"c_url/8"),
            (b"accept-encoding", b"gzip"),
        )
    )


@pytest.mark.parametrize("agent", [(), ((b"user-agent", b""),)])
def test_a_user_agent_is_always_forwarded(agent: tuple[tuple[bytes, bytes], ...]) -> None:
    """GitHub refuses requests without one, and the refusal would be stored for other clients."""
    assert canonical_request_fields(Fields(agent)).get(b"user-agent") == DEFAULT_USER_AGENT


names = st.sampled_from(
    [b"accept", b"authorization", b"origin", b"x-github-a", b"x-requested-with", b"accept-language"]
)
requests = st.dictionaries(names, st.sampled_from([b"", b"a", b"b"])).map(
    lambda lines: Fields(lines.items())
)


@given(requests, requests)
def test_equal_keys_and_credentials_have_equal_canonical_fields(one: Fields, other: Fields) -> None:
    """Requests with one cache key and credential reach GitHub alike."""
    same_key = CacheKey.of(b"/", one) == CacheKey.of(b"/", other)
    same = same_key and one.get(b"authorization") == other.get(b"authorization")
    assert same is (
        sorted(canonical_request_fields(one)) == sorted(canonical_request_fields(other))
    )


def lines(*pairs: tuple[bytes, bytes]) -> Fields:
    return Fields(pairs)


ETAG = (b"etag", b'"a"')


def test_framing_of_responses_is_not_forwarded() -> None:
    """Framing and hop-by-hop fields are each connection's own."""
    sent = lines((b"content-length", b"1"), (b"connection", b"x-hop"), (b"x-hop", b"1"), ETAG)
    assert forwarded_fields.forwarded_response_fields(sent) == lines(ETAG)


def test_cookies_of_responses_are_not_forwarded() -> None:
    """Nor is what belongs to one connection; all else is."""
    fields = Fields(((b"Set-Cookie", b"a=b"), (b"Content-Length", b"1"), (b"X-Own", b"1")))
    assert forwarded_fields.forwarded_response_fields(fields).lines == ((b"x-own", b"1"),)
