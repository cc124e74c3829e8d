"""A stand-in for api.github.com: a real HTTP server with GitHub's rules and quotas.

In a test, on the running reactor::

    github = GitHub()
    github.user("alice", tokens=["tok"])
    github.put("/repos/o/r/issues/1", {"number": 1})
    await github.listen()
    ...
    await github.close()

As a program of its own: ``python -m tests.fakes.github --port 0 --resources 1000 --users 10``
prints its URL, and accepts the same calls as JSON under ``/_control/`` (see `control`).
"""

from tests.fakes.github.connection import BLOCK
from tests.fakes.github.faults import CONTENT_FAULTS, FAULTS, Fault, Gate
from tests.fakes.github.messages import (
    ANONYMOUS,
    DOCS,
    JSON,
    NEW_VERSION,
    OLD_VERSION,
    VARY,
    VERSIONS,
    Exchange,
)
from tests.fakes.github.population import populate
from tests.fakes.github.server import GitHub
from tests.fakes.github.users import Quota, User

__all__ = [
    "ANONYMOUS",
    "BLOCK",
    "CONTENT_FAULTS",
    "DOCS",
    "FAULTS",
    "JSON",
    "NEW_VERSION",
    "OLD_VERSION",
    "VARY",
    "VERSIONS",
    "Exchange",
    "Fault",
    "Gate",
    "GitHub",
    "Quota",
    "User",
    "populate",
]
