"""Names of credentials: keyed hashes."""

import base64
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.caching.credential_names import CredentialNames
from ghmirror_tw.github.credentials import token_in
from ghmirror_tw.http.fields import Fields

#: Values that could be confused if they were concatenated.
parts = st.sampled_from([b"", b"-", b"1:", b"1:a", b"a", b"--", b"0:", b"2:a-"]) | st.binary()


@given(st.none() | parts, st.none() | parts, parts)
def test_different_credentials_have_different_names(
    a: bytes | None, b: bytes | None, secret: bytes
) -> None:
    """Two credentials have two names, with a secret and without; one has one."""
    names = CredentialNames(secret)
    assert (names.name(a) == names.name(b)) is (a == b)
    assert CredentialNames(secret).name(a) == names.name(a)


@given(st.none() | parts, st.binary(max_size=64), st.binary(max_size=64))
def test_names_differ_by_secret(credential: bytes | None, one: bytes, other: bytes) -> None:
    """With another secret, or none, the credential of a name cannot be identified."""
    # HMAC pads short keys with zero bytes, so those at the end make no other key.
    same = one.rstrip(b"\0") == other.rstrip(b"\0") and bool(one) == bool(other)
    names = CredentialNames(one).name(credential), CredentialNames(other).name(credential)
    assert (names[0] == names[1]) is same


def test_names_are_keyed_hashes() -> None:
    """With a secret it is HMAC-SHA-256, and the secret is not shown."""
    expected = hmac.digest(b"s3cret", b"credential\x007:token x", "sha256").hex()[:32]
    assert CredentialNames(b"s3cret").name(b"token x") == expected
    assert len(CredentialNames().name(None)) == 32
    assert "s3cret" not in repr(CredentialNames(b"s3cret"))


def _basic(pair: bytes) -> bytes:
    return b"Basic " + base64.b64encode(pair)


@pytest.mark.parametrize(
    "authorization",
    [
        b"token abc",
        b"Bearer abc",
        b"bearer  abc ",
        b"TOKEN abc",
        b"basic YTphYmM",
        _basic(b"octocat:abc"),
        _basic(b"abc:"),
        _basic(b"abc"),
        _basic(b"abc:x-oauth-basic"),
    ],
)
def test_a_token_has_one_name_with_any_scheme(authorization: bytes) -> None:
    """Its limits are; its literal value, on which entity-tags depend, is not."""
    names = CredentialNames(b"s3cret")
    fields = Fields(((b"authorization", authorization),))
    assert token_in(authorization) == b"abc"
    assert names.token_of(fields) == names.name(b"token abc")
    assert names.of(fields) == names.name(authorization)


@pytest.mark.parametrize(
    "authorization", [None, b"", b"abc", b"Basic !", b"Basic A", b"token ", b"Unknown abc"]
)
def test_a_value_without_a_token_has_its_own_name(authorization: bytes | None) -> None:
    """Any such value shares no limits with others."""
    names = CredentialNames()
    lines = () if authorization is None else ((b"authorization", authorization),)
    assert names.token_of(Fields(lines)) == names.name(authorization)


def test_older_secrets_have_older_names() -> None:
    """The current secret names credentials, and former ones are known by theirs."""
    former, current = CredentialNames(b"old", b"o"), CredentialNames(b"new", b"o")
    names = CredentialNames.by((b"new", b"old"), b"o")
    fields = Fields(((b"authorization", b"Bearer x"),))
    assert names.of(fields) == current.of(fields)
    assert [older.of(fields) for older in names.older] == [former.of(fields)]
    assert names.older_tokens_of(fields) == (former.token_of(fields),)
    assert names.secrets == (b"new", b"old")
    assert CredentialNames.by((), b"o").secrets == (b"",)
    assert current.older_tokens_of(fields) == ()
