"""A caching reverse proxy for the GitHub API that never answers stale and hardly ever pays."""

from typing import Final

__version__: Final = "0.1.0"
