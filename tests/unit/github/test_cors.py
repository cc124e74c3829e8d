"""Cross-origin requests have the fields that GitHub sends."""

import pytest

from ghmirror_tw.github.cors import EXPOSED, ON_EVERY_RESPONSE, ON_PREFLIGHT, is_preflight
from ghmirror_tw.http.fields import Fields


@pytest.mark.parametrize(
    ("method", "name", "expected"),
    [
        (b"OPTIONS", b"access-control-request-method", True),
        (b"OPTIONS", b"origin", False),
        (b"GET", b"access-control-request-method", False),
    ],
)
def test_a_preflight_is_known_by_method_and_field(
    method: bytes, name: bytes, expected: bool
) -> None:
    """Another `OPTIONS` is a request like others."""
    assert is_preflight(method, Fields(((name, b"GET"),))) is expected


def test_the_mirrors_own_fields_are_exposed_beside_githubs() -> None:
    """Once each, so that scripts can read them."""
    exposed = EXPOSED.split(b", ")
    own = {b"Cache-Status", b"Age", b"X-Cache", b"X-From-Cache", b"X-Cache-Mode"}
    assert own | {b"Link", b"X-RateLimit-Remaining"} <= set(exposed)
    assert len(exposed) == len(set(exposed))


def test_names_are_lower_case_as_in_all_fields() -> None:
    """They are spelled where a head is written."""
    names = [name for name, _ in (*ON_EVERY_RESPONSE, *ON_PREFLIGHT)]
    assert names == [name.lower() for name in names]
