from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.redis_servers import RedisServer
from tests.unit.cli.command_process import Operator
from tests.unit.cli.snapshot_files import SECRET


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    """An operator whose directory for snapshots does not exist yet."""
    home = tmp_path / "operator"
    home.mkdir()
    made = Operator(home)
    return made.configure(
        {
            "cache": {"credential_secret": SECRET},
            "snapshot": {"target": (home / "kept").as_uri()},
        }
    )


@pytest.fixture
def kept(operator: Operator) -> Path:
    """The directory of their snapshots."""
    return operator.directory / "kept"


@pytest.fixture
def redis(operator: Operator) -> Iterator[RedisServer]:
    """The Redis of their store."""
    with RedisServer() as server:
        operator.configure(
            {
                "cache": {"backend": "redis"},
                "redis": {"url": f"redis://127.0.0.1:{server.port}"},
            }
        )
        yield server
