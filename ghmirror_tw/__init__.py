"""A caching reverse proxy for the GitHub API: it validates stored responses, which costs no quota."""

from typing import Final

__version__: Final = "0.1.0"
