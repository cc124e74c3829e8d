"""The `twistd ghmirror` plugin: its command-line options and the service that twistd runs."""

from __future__ import annotations

import signal
import sys

from twisted.application.service import MultiService
from twisted.python import usage

from ghmirror_tw import __version__
from ghmirror_tw.config.option import ConfigError
from ghmirror_tw.config.settings import Settings
from ghmirror_tw.config.settings_loader import read_settings
from ghmirror_tw.runtime.steady_clock import SteadyClock


class Options(usage.Options):
    """The command-line options of `twistd ghmirror`."""

    #: Otherwise Twisted shows the docstring of its script, which is a line for the shell where the
    #: path of the script has a space.
    longdesc = (
        "These options follow the word ghmirror. conf/ghmirror.ini has all options of the INI file."
    )
    optParameters = [  # noqa: RUF012 - Twisted reads this class attribute
        ["config", "c", None, "The INI file; without it, every option has its default."]
    ]

    settings: Settings

    def __init__(self) -> None:
        """Block SIGHUP, which would end the process; `MirrorService` handles it once it runs."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        super().__init__()

    def opt_version(self) -> None:
        """Display the version of ghmirror and exit."""
        sys.stdout.write(f"ghmirror {__version__}\n")
        raise SystemExit(0)

    def postOptions(self) -> None:
        """Read the configuration; if it has faults, print all of them and exit with status 1."""
        try:
            self.settings = read_settings(self["config"])
        except ConfigError as error:
            raise _exit(error) from None


def makeService(options: Options) -> MultiService:
    """Return the service that twistd runs."""
    from twisted.internet import reactor  # noqa: PLC0415 - twistd chooses it before this call

    # This import takes most of the start, during which SIGHUP must be blocked already.
    from ghmirror_tw.wiring.service_parts import build_service  # noqa: PLC0415

    SteadyClock().install(reactor)
    twistd = getattr(options, "parent", None) or {}
    try:
        return build_service(reactor, options.settings, options["config"], twistd)
    except ConfigError as error:
        raise _exit(error) from None


def _exit(error: ConfigError) -> SystemExit:
    sys.stderr.write(f"{error}\n")
    return SystemExit(1)
