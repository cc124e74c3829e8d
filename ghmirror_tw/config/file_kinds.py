"""Kinds of values that are paths of files: secrets and certificates."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from ghmirror_tw.config.value_kinds import ValueKind


def read_text(path: str) -> str:
    """Return the content of the file. Raises `ValueError` if it cannot be read."""
    try:
        return Path(path).read_bytes().decode()
    except OSError as error:
        raise ValueError(f"{path!r} cannot be read ({error.strerror})") from None
    except ValueError:
        raise ValueError(f"{path!r} cannot be read as UTF-8 text") from None


def without_newline(text: str) -> str:
    """Return *text* without one line break at its end, which editors and ``echo`` add."""
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def read_secret(path: str, kind: ValueKind[str]) -> str:
    """Return the secret in the file. Raises `ValueError`, whose text has no part of the secret."""
    content = without_newline(read_text(path))
    if not content:
        raise ValueError(f"{path!r} is empty")
    try:
        return kind.parse(content)
    except ValueError as error:
        raise ValueError(f"in {path!r}: {error}") from None


def secret_file(kind: ValueKind[str]) -> ValueKind[str]:
    """Return the kind of paths of readable files that contain a secret of this *kind*."""

    def parse(text: str) -> str:
        read_secret(text, kind)
        return text

    return ValueKind(parse, f"the path of a readable file that contains {kind.expected}")


def _pem_file(text: str) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=read_text(text))
    except (ssl.SSLError, TypeError):  # the latter for text that is not ASCII
        raise ValueError(f"{text!r} contains no valid certificate") from None
    return text


pem_file: Final = ValueKind(_pem_file, "the path of a file of certificates in PEM format")
