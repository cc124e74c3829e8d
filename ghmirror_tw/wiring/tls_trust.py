"""Certificate authorities that options name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ghmirror_tw.config.option import ConfigError
from ghmirror_tw.runtime.certificate_authorities import trust_root


def build_trust(section: str, name: str, path: str) -> Any:
    """Return the certificate authorities of the platform and of the file at *path*, if not empty.

    Raises `ConfigError`, which names the option.
    """
    try:
        return trust_root(Path(path).read_text("ascii") if path else "")
    except (OSError, ValueError) as error:
        raise ConfigError([f"[{section}] {name}: {error}; expected PEM certificates"]) from error
