"""twistd where coverage is measured: it ends by sending itself the signal that it got.

No exit functions run then, so what was measured is saved just before.
"""

import coverage
from twisted.application import app
from twisted.scripts import twistd

_exit_with_signal = app._exitWithSignal


def _save_and_exit(number: int) -> None:
    measuring = coverage.Coverage.current()
    if measuring is not None:
        measuring.stop()
        measuring.save()
    _exit_with_signal(number)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    app._exitWithSignal = _save_and_exit
    twistd.run()
