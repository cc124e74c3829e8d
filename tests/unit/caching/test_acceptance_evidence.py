"""Evidence that GitHub has accepted a credential."""

from __future__ import annotations

import pytest
from attrs import evolve

from ghmirror_tw.caching.acceptance_evidence import (
    lookup_shows_acceptance,
    response_shows_acceptance,
)
from ghmirror_tw.caching.epochs import new_epoch
from ghmirror_tw.caching.records import Grant, Known

GRANT = Grant("d", None, None, None, 1.0, 1.0, epoch=b"e")


@pytest.mark.parametrize("status", [200, 201, 204, 304])
@pytest.mark.parametrize("authorization", [b"token x", b"Bearer x", b"basic eDp5", b"TOKEN x"])
def test_successful_responses_show_acceptance(status: int, authorization: bytes) -> None:
    """Any 2xx and 304, to a scheme that GitHub validates."""
    assert response_shows_acceptance(status, authorization)


@pytest.mark.parametrize("status", [100, 301, 302, 401, 403, 404, 422, 429, 500, 503])
def test_other_responses_show_nothing(status: int) -> None:
    """They may be those to a credential that is not valid."""
    assert not response_shows_acceptance(status, b"token x")


@pytest.mark.parametrize("authorization", [None, b"", b"Other x", b"x", b"Digest a=b"])
def test_responses_without_a_validated_credential_show_nothing(authorization: bytes | None) -> None:
    """A response to it is that to a request without a credential."""
    assert not response_shows_acceptance(200, authorization)


def test_a_grant_of_the_current_epoch_shows_acceptance() -> None:
    """If it is of the current epoch: after a 401 and a restore it is not."""
    assert lookup_shows_acceptance(Known(grant=GRANT, epoch=b"e"))
    assert lookup_shows_acceptance(Known(grant=GRANT, epoch=b"f")) is None
    assert lookup_shows_acceptance(Known(grant=GRANT)) is None


def test_an_epoch_shows_acceptance() -> None:
    """Its absence shows the opposite only where it was read from the primary."""
    assert lookup_shows_acceptance(Known(epoch=b"e"))
    assert lookup_shows_acceptance(Known(epoch=new_epoch()))
    assert lookup_shows_acceptance(Known()) is False
    assert lookup_shows_acceptance(Known(current=False)) is None


def test_an_epoch_without_a_successful_response_shows_nothing() -> None:
    """Such as that of a write without a response, and that after a 401."""
    epoch = new_epoch(accepted=False)
    assert lookup_shows_acceptance(Known(epoch=epoch)) is False
    assert lookup_shows_acceptance(Known(grant=evolve(GRANT, epoch=epoch), epoch=epoch))
