"""Whom TLS trusts, as the settings say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ghmirror_tw.config.settings import ConfigError
from ghmirror_tw.runtime.certificate_authorities import trust_root


def trusted(section: str, name: str, path: str) -> Any:
    """Return whom TLS trusts: the platform, and whom the file at *path* (or nothing) vouches for.

    Raises `ConfigError`, which names the option.
    """
    try:
        return trust_root(Path(path).read_text("ascii") if path else "")
    except (OSError, ValueError) as error:
        raise ConfigError([f"[{section}] {name}: {error}; expected PEM certificates"]) from error
