"""Different requests have different cache keys."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.caching.credential_names import CredentialNames
from ghmirror_tw.caching.key import CacheKey, server_id
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request

#: Values that could be confused if they were concatenated.
parts = st.sampled_from([b"", b"-", b"1:", b"1:a", b"a", b"--", b"0:", b"2:a-"]) | st.binary()


others = st.lists(st.tuples(parts, parts), max_size=3).map(tuple)


optional = st.none() | parts


keys = st.builds(CacheKey, parts, optional, optional, optional, others, parts)


@given(keys, keys)
def test_keys_are_equal_exactly_if_their_names_are(a: CacheKey, b: CacheKey) -> None:
    """No two keys share a name, and one key has one name."""
    assert (a == b) is (a.name == b.name)


@given(st.lists(st.none() | parts, min_size=3, max_size=3), st.permutations(range(3)))
def test_fields_are_not_confused(values: list[bytes | None], order: list[int]) -> None:
    """The same values in other fields are another key."""
    moved = [values[index] for index in order]
    (a, b, c), (d, e, f) = values, moved
    same = CacheKey(b"/", a, b, c).name == CacheKey(b"/", d, e, f).name
    assert same is (values == moved)


def test_the_key_of_a_request() -> None:
    """Target byte for byte, and the three fields that select; absent and empty differ."""
    fields = Fields(
        (
            (b"ACCEPT", b"application/json"),
            (b"Authorization", b"token x"),
            (b"X-GitHub-Api-Version", b"2022-11-28"),
            (b"X-Requested-With", b""),
        )
    )
    key = CacheKey.of(b"/a?b=%2F", fields)
    assert key == CacheKey(b"/a?b=%2F", b"application/json", b"2022-11-28", b"")
    assert key != CacheKey.of(b"/a?b=%2f", fields)
    assert key != CacheKey.of(b"/a?b=%2F", fields.with_line(b"x-requested-with", None))
    assert key == CacheKey.of(b"/a?b=%2F", fields.with_line(b"authorization", b"token y"))


def test_other_own_fields_of_github_are_part_of_the_key() -> None:
    """All but a one-time password, in any order."""
    one, other = (b"X-GitHub-Next-Global-ID", b"1"), (b"X-GitHub-Else", b"")
    key = CacheKey.of(b"/a", Fields((one, other)))
    assert key.others == ((b"x-github-else", b""), (b"x-github-next-global-id", b"1"))
    assert key == CacheKey.of(b"/a", Fields((other, one)))
    assert len({key, CacheKey.of(b"/a", Fields((one,))), CacheKey(b"/a")}) == 3
    assert CacheKey.of(b"/a", Fields(((b"X-GitHub-OTP", b"1"),))) == CacheKey(b"/a")


def test_names_of_keys_are_stable() -> None:
    """A name is the same in every replica and version, or the shared cache would be lost."""
    assert CacheKey(b"/zen").name == hashlib.sha256(b"4:/zen---").hexdigest()[:40]


@pytest.mark.parametrize(
    ("target", "path"), [(b"/a?b?c", b"/a"), (b"/a", b"/a"), (b"/?", b"/"), (b"/a%3Fb", b"/a%3Fb")]
)
def test_the_path_of_a_request(target: bytes, path: bytes) -> None:
    """The path ends at the first question mark."""
    assert Request(b"GET", target, Fields()).path == path


def test_the_credential_of_a_request() -> None:
    """It is the `Authorization` value as sent, and is not shown."""
    request = Request(b"GET", b"/", Fields(((b"Authorization", b"token s3cret"),)))
    assert request.authorization == b"token s3cret"
    assert Request(b"GET", b"/", Fields()).authorization is None
    assert "s3cret" not in repr(request)


def test_the_path_is_the_target_without_its_query() -> None:
    """Byte for byte."""
    assert CacheKey(b"/a%2Fb?c=d?e").path == b"/a%2Fb"
    assert CacheKey(b"/a").path == b"/a"


def test_servers_have_keys_and_credentials_of_their_own() -> None:
    """So that mirrors of two servers may share one Redis; GitHub.com's names are as ever."""
    assert server_id("https://api.github.com/") == server_id("https://API.GitHub.com") == b""
    one, other = server_id("https://github.example/api/v3/"), server_id("https://b.example")
    assert one == b"https://github.example/api/v3"
    fields = Fields(((b"authorization", b"token x"),))
    names = [CacheKey.of(b"/a", fields, origin).name for origin in (b"", one, other)]
    assert len(set(names)) == 3
    assert names[0] == CacheKey(b"/a").name
    for secret in (b"", b"secret"):
        of_each = [CredentialNames(secret, origin).of(fields) for origin in (b"", one, other)]
        assert len(set(of_each)) == 3
        assert of_each[0] == CredentialNames(secret).of(fields)
