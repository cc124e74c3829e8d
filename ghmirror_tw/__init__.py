"""A caching reverse proxy for the GitHub API; validating a stored response is free."""

from typing import Final

__version__: Final = "0.1.0"
