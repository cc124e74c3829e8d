"""No target names another host, and each is forwarded byte for byte."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.http.request import BadRequestError
from ghmirror_tw.http.targets import (
    NoSuchPathError,
    Target,
    check_request_line,
    has_secret_in_query,
    parse_target,
    path_of,
)

near_targets = st.lists(
    st.sampled_from(
        [
            *(b"/", b"//", b"/api/v3", b"/api/graphql", b"/api", b"/v3", b"/x", b"a", b"?", b"&"),
            *(b".", b"..", b"%2e", b"%2F", b"%5C", b"%00", b"%20", b"%", b"@", b":", b"\\", b"#"),
            *(b"evil.com", b"https://", b" ", b"\r\n", b"\xc3\xa9", b";", b"=", b"%25", b"*"),
        ]
    ),
    max_size=8,
).map(b"".join)


@pytest.mark.parametrize(
    "uri",
    [
        b"/",
        b"/zen",
        b"/repos/o/r/contents/a%20b",
        b"/repos/o/r/contents/a%5Cb",
        b"/repos/o/r/git/ref/heads%2Fmain",
        b"/repos/o/r/branches/feature%2fx",
        b"/repos/o/r/compare/a...b",
        b"/repos/o/.github/contents/..x",
        b"/search/code?q=a%2Fb+repo:o/r&x=../..&y=100%&z=\\&w=%2e%2e/",
        b"/repos/o/r//contents",
        b"/users/name[bot]",
        b"/@host",
        b"/%2F%2Fevil.com/x",
        b"/?",
        b"/api/v3x",
        b"/api/v",
        b"/api/graphqlx",
        b"/api/uploads",
        b"/api/uploadsx/repos",
        b"/x?/api/v3/",
    ],
)
def test_targets_pass_byte_for_byte(uri: bytes) -> None:
    """A target that GitHub accepts reaches it unchanged."""
    assert parse_target(uri) == Target(b"", uri)


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        (b"/api/v3", b"/"),
        (b"/api/v3/", b"/"),
        (b"/api/v3?x", b"/?x"),
        (b"/api/v3/?x", b"/?x"),
        (b"/api/v3/zen", b"/zen"),
        (b"/api/v3/search?q=/api/v3/", b"/search?q=/api/v3/"),
        (b"/api/v3/graphql", b"/graphql"),
        (b"/api/graphql", b"/graphql"),
        (b"/api/graphql?x=1", b"/graphql?x=1"),
        (b"/api/graphql/", b"/graphql/"),
    ],
)
def test_prefixes_are_removed(uri: bytes, target: bytes) -> None:
    """Clients of GitHub Enterprise Server mean the same by their prefix."""
    assert parse_target(uri) == Target(b"/api/v3", target)


@pytest.mark.parametrize(
    "uri",
    [
        b"",
        b"*",
        b"zen",
        b"?x",
        b"@evil.com/",
        b"evil.com:443",
        b"https://",
        b"https:///zen",
        b"https://user@evil.com/zen",
        b"https://evil.com:0/zen",
        b"https://[::x]/zen",
        b"https://evil.com/a/../b",
        b"ftp://evil.com/zen",
        b"//evil.com/zen",
        b"/api/v3//evil.com/zen",
        b"/\\evil.com/zen",
        b"/a\\b",
        b"/a b",
        b"/a\tb",
        b"/a\r\nHost: evil.com",
        b"/a\0b",
        b"/a\x7fb",
        b"/caf\xc3\xa9",
        b"/search?q=caf\xc3\xa9",
        b"/a#b",
        b"/a%00b",
        b"/search?q=%00",
        b"/a/../b",
        b"/a/./b",
        b"/..",
        b"/.",
        b"/api/v3/..",
        b"/api/v3/../graphql",
        b"/a/%2e%2E/b",
        b"/a/.%2e",
        b"/a%2F..%2Fb",
        b"/a%5c%2e%2e%5cb",
        b"/a%",
        b"/a%2",
        b"/a%zzb",
    ],
)
def test_targets_that_are_refused(uri: bytes) -> None:
    """Other forms, other hosts, NUL, dots and bytes that no URL has get a message."""
    with pytest.raises(BadRequestError) as refused:
        parse_target(uri)
    assert refused.value.message
    assert str(refused.value)


@pytest.mark.parametrize(
    ("uri", "split"),
    [
        (b"http://m.test:8080/user?x=1", Target(b"", b"/user?x=1", b"m.test:8080")),
        (b"HTTPS://M.test/api/v3/user", Target(b"/api/v3", b"/user", b"M.test", secure=True)),
        (b"http://[::1]", Target(b"", b"/", b"[::1]")),
        (b"http://m.test?x", Target(b"", b"/?x", b"m.test")),
    ],
)
def test_the_absolute_form(uri: bytes, split: Target) -> None:
    """Its authority replaces `Host`, and the rest is a target like any other."""
    assert parse_target(uri) == split


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        (b"/healthz?x", b"/healthz"),
        (b"http://m.test/healthz?x", b"/healthz"),
        (b"healthz", b"healthz"),
        (b"http://m.test", b""),
    ],
)
def test_paths(uri: bytes, path: bytes) -> None:
    """They are found in either form."""
    assert path_of(uri) == path


def test_uploads_below_the_prefix() -> None:
    """Clients add the prefix for uploads to a base URL that has the other one."""
    target = b"/api/uploads/repos/o/r/releases/1/assets"
    assert parse_target(b"/api/v3" + target) == Target(b"/api/v3", target)


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        (b"//repos/o/r", "slash at its end"),
        (b"/api/v3//repos/o/r", "slash at its end"),
        (b"//api/v3/repos/o/r", "slash at its end"),
        (b"/api/uploads//repos/o/r", "slash at its end"),
        (b"/api/v3/api/v3/repos/o/r", "twice"),
        (b"/api/v3/api/v3", "twice"),
        (b"/api/v3/api/graphql", "twice"),
        (b"/api/v3/api/uploads/api/v3/repos/o/r", "twice"),
        (b"/api/uploads/api/v3/repos/o/r", "twice"),
        (b"/api/graphql/api/graphql", None),
    ],
)
def test_wrong_base_urls(uri: bytes, word: str | None) -> None:
    """A target that only a wrong base URL explains has that reason."""
    if word is None:
        assert parse_target(uri).target == b"/graphql/api/graphql"
        return
    with pytest.raises(NoSuchPathError, match="base URL") as refused:
        parse_target(uri)
    assert word in refused.value.message


@pytest.mark.parametrize(
    ("line", "raw"),
    [
        (b"GET /caf\xc3\xa9 HTTP/1.1", True),
        (b"GET /caf\xc3\xa9 x HTTP/1.0", True),
        (b"GET /caf%C3%A9 HTTP/1.1", False),
        (b"\x16\x03\x01\xc3", False),
        (b"G\xc3T / HTTP/1.1", False),
        (b"", False),
    ],
)
def test_request_lines(line: bytes, raw: bool) -> None:
    """A line with raw letters in its target is known for what it is."""
    if not raw:
        check_request_line(line)
        return
    with pytest.raises(BadRequestError, match="percent-encode"):
        check_request_line(line)


@pytest.mark.parametrize("uri", ["/caf\xe9", "/search?q=caf\xe9", "http://m.test/caf\xe9"])
def test_raw_letters(uri: str) -> None:
    """The message for bytes beyond ASCII names the remedy."""
    with pytest.raises(BadRequestError, match="percent-encode"):
        parse_target(uri.encode())


@given(near_targets)
def test_no_target_names_another_host(uri: bytes) -> None:
    """Each accepted target, appended to GitHub's URL, is a path at GitHub and has one reading."""
    try:
        split = parse_target(b"/" + uri)
    except BadRequestError:
        return
    url = urlsplit(b"https://api.github.com" + split.target)
    assert url.netloc == b"api.github.com"
    assert url.geturl().removesuffix(b"?") == (
        b"https://api.github.com" + split.target
    ).removesuffix(b"?")
    assert split.target.startswith(b"/")
    assert not split.target.startswith(b"//")
    assert not set(url.path.split(b"/")) & {b".", b".."}


@given(near_targets)
def test_parsing_twice_changes_nothing(uri: bytes) -> None:
    """A target with its prefix is read as what it was read as before."""
    try:
        split = parse_target(b"/" + uri)
    except BadRequestError:
        return
    assert parse_target(split.prefix + split.target) == split


@given(st.binary())
def test_any_bytes_are_a_target_or_refused(uri: bytes) -> None:
    """No target makes the parser fail in another way."""
    try:
        split = parse_target(uri)
    except BadRequestError:
        return
    assert uri.endswith(split.target.removeprefix(b"/graphql").removeprefix(b"/"))


@pytest.mark.parametrize(
    ("target", "secret"),
    [
        (b"/x", False),
        (b"/x?access_token=abc", True),
        (b"/x?a=1&client_secret", True),
        (b"/x?client%5Fsecret=1", True),
        (b"/x?q=access_token=1", False),
        (b"/access_token=1", False),
        (b"/x?my_access_token=1", False),
    ],
)
def test_secrets_in_the_query(target: bytes, secret: bool) -> None:
    """A credential in the query is noticed however its name is spelled."""
    assert has_secret_in_query(target) is secret
