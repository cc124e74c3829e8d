from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fakes.s3 import serving
from tests.harness.untraced_code import untraced

# A busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

#: Folders of tests that execute hardly any line which other tests do not execute, too.
UNTRACED = ("clients", "deploy", "history", "page", "system")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[None]:
    """Start S3 for all tests, and stop it after them."""
    with serving():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Trace lines for coverage only where a test adds something to it."""
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    with untraced() if folder in UNTRACED else nullcontext():
        return (yield)
