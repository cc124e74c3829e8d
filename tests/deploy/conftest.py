from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.engine import Engine, report_missing, shared
from tests.deploy.images import Images


def _directory(config: pytest.Config) -> Path:
    """Return the directory that all workers of a run share."""
    factory: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]
    base = factory.getbasetemp()
    return (base.parent if hasattr(config, "workerinput") else base) / "engine"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Report tests by name that need an engine where none runs; in CI they fail."""
    if "engine" not in getattr(item, "fixturenames", ()):
        return
    obstacle = shared(_directory(item.config))
    if isinstance(obstacle, str):
        report_missing(item.nodeid, obstacle)


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> Engine:
    """The engine that all workers share."""
    found = shared(_directory(request.config))
    assert isinstance(found, Engine)
    return found


@pytest.fixture(scope="session")
def images(engine: Engine) -> Images:
    """The images of the engine."""
    return Images(engine)
