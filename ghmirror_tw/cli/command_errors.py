"""Exit statuses of commands, and the error that ends one."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any


class Status(IntEnum):
    """Exit statuses; `main` explains them in its help."""

    OK = 0
    #: The examined object has a fault, or the operation was not performed.
    FAULT = 1
    #: The command line or the configuration cannot be used.
    USAGE = 2
    #: The store, the target or the mirror cannot be reached, or refuses.
    UNREACHABLE = 3
    #: Ctrl-C; by the convention of shells, SIGTERM is 143.
    INTERRUPTED = 130


class CommandError(Exception):
    """A command failed: *code* is a word for programs, *message* a line for people.

    *faults* are those of a configuration, a line each. No text contains a secret.
    """

    def __init__(
        self, code: str, message: str, status: int = Status.FAULT, faults: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = int(status)
        self.faults = list(faults)

    @property
    def document(self) -> dict[str, Any]:
        """The error as JSON."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.faults:
            error["faults"] = self.faults
        return {"error": error}

    @property
    def lines(self) -> list[str]:
        """The error as lines."""
        return self.faults or [self.message]
