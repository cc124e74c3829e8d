from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dialogues.replicas import SharedRedis
from tests.harness.redis_servers import RedisServer


@pytest.fixture(scope="session")
def dialogue_redis() -> Iterator[SharedRedis]:
    """One server for all; a dialogue that stops it starts it again."""
    with RedisServer() as server:
        yield SharedRedis(server)
