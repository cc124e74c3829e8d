"""How a command ends, for people, for scripts, and for what reads JSON."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any


class Status(IntEnum):
    """Exit statuses; `main` explains them in its help."""

    OK = 0
    #: What was looked at is at fault, or what was asked for was not done.
    FAULT = 1
    #: The command line or the configuration can't be used as it is.
    USAGE = 2
    #: The store or the target can't be reached, or refuses.
    UNREACHABLE = 3
    #: Ctrl-C; as shells count, SIGTERM is 143.
    INTERRUPTED = 130


class CommandError(Exception):
    """A command came to nothing: *code* is a word for scripts, *message* a line for people.

    *faults*: all that is wrong with a configuration, a line each. None of it tells a secret.
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
        """What is said in JSON."""
        said: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.faults:
            said["faults"] = self.faults
        return {"error": said}

    @property
    def lines(self) -> list[str]:
        """What is said in words."""
        return self.faults or [self.message]
