"""The key that ends a command on a terminal."""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from attrs import define
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

#: Both cases of q, as in top and less.
_QUIT: Final = frozenset(b"qQ")
_READ_BYTES: Final = 1024


@implementer(IReadDescriptor)
@define(eq=False)
class QuitKey:
    """Reads keys from the terminal at *descriptor*, and calls *on_quit* at a q.

    At the end of input no more is read.
    """

    reactor: Any
    descriptor: int
    on_quit: Callable[[], object]
    pressed: bool = False

    def fileno(self) -> int:
        """Return the descriptor of the terminal."""
        return self.descriptor

    def logPrefix(self) -> str:
        """Return the name of this reader in Twisted's log."""
        return "keys"

    def doRead(self) -> None:
        """Read the keys that were pressed."""
        keys = os.read(self.descriptor, _READ_BYTES)
        if not keys:
            self.reactor.removeReader(self)
        elif not self.pressed and _QUIT.intersection(keys):
            self.pressed = True
            self.on_quit()

    def connectionLost(self, reason: Any) -> None:
        """Do nothing: the reactor has removed this reader."""


@contextmanager
def quit_key(reactor: Any, on_quit: Callable[[], object]) -> Iterator[QuitKey]:
    """Call *on_quit* at a q, if stdin is a terminal; at the end restore the terminal's mode."""
    keys = QuitKey(reactor, sys.stdin.fileno(), on_quit)
    if not sys.stdin.isatty():
        yield keys
        return
    before = termios.tcgetattr(keys.descriptor)
    tty.setcbreak(keys.descriptor, termios.TCSADRAIN)
    reactor.addReader(keys)
    try:
        yield keys
    finally:
        reactor.removeReader(keys)
        termios.tcsetattr(keys.descriptor, termios.TCSADRAIN, before)
