from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.fakes.s3 import serving

# A busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[None]:
    """Let S3 be there; it is stopped when all tests are over."""
    with serving():
        yield
