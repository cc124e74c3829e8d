"""What can be typed: commands, their options, and their help."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TypeVar

import click

from ghmirror_tw import __version__
from ghmirror_tw.cli.exit_status import CommandError, Status
from ghmirror_tw.cli.output import Output

F = TypeVar("F", bound=Callable[..., Any])

_STATUSES: Final = """\b
Exit status:
  0    all is well
  1    something is wrong with what was looked at, or it was not done
  2    the command line or the configuration can't be used
  3    the store, the target or the mirror can't be reached, or refuses
  130  ended by Ctrl-C (143: by SIGTERM)
"""

_SETTINGS: Final = {"help_option_names": ["-h", "--help"]}


def _common(command: F) -> F:
    """Give a command the options that all have."""
    for option in (
        click.option(
            "--verbose", "-v", is_flag=True, help="Write the log of what is done to stderr."
        ),
        click.option("--quiet", "-q", is_flag=True, help="Show no progress."),
        click.option(
            "--json",
            "as_json",
            is_flag=True,
            help="Print one JSON document, errors included, and nothing else on stdout.",
        ),
        click.option(
            "--config",
            "-c",
            metavar="FILE",
            help="The mirror's INI file; without it, every option has its default.",
        ),
    ):
        command = option(command)
    return command


@click.group(context_settings=_SETTINGS, epilog=_STATUSES)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Look after ghmirror, the caching reverse proxy for the GitHub API.

    Commands take the configuration that the mirror takes: an INI file, and environment variables
    GHMIRROR_<SECTION>_<OPTION>, which win over it.
    """


@cli.command("check-config", epilog=_STATUSES)
@_common
def check_config(config: str | None, as_json: bool, **more: bool) -> int:
    """Say all that is wrong with a configuration.

    Every fault is told at once, each with its section and option, and so is what would work but
    may not be what was meant. Nothing is connected to. With a fault the mirror would not start,
    and the exit status is 1.
    """
    from ghmirror_tw.cli.commands import check_config as check  # noqa: PLC0415 - see `ctl`

    return check(config, Output(as_json, **more))


@cli.command(epilog=_STATUSES)
@click.option(
    "--url",
    metavar="URL",
    help="The mirror's admin port, such as http://mirror:8081; by default what [server] "
    "admin_listen says, on this machine.",
)
@click.option("--once", is_flag=True, help="Show the figures once, as lines.")
@click.option(
    "--interval",
    "-n",
    "interval_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0.5, max=3600.0),
    default=2.0,
    help="How often they are asked for on a terminal; 2 by default.",
)
@_common
def top(
    url: str | None, once: bool, interval_s: float, config: str | None, as_json: bool, **more: bool
) -> int:
    """Show what a mirror does, as its status page does.

    What is saved and spent, by whom; outcomes and latencies; GitHub, the store, limits, snapshots,
    and the busiest paths. On a terminal it is shown until Ctrl-C, elsewhere once.
    """
    from ghmirror_tw.cli.top import look  # noqa: PLC0415 - see `ctl`

    return look(config, url, Output(as_json, **more), interval_s, once=once)


@cli.group(epilog=_STATUSES)
def snapshot() -> None:
    """List, make, check and restore snapshots of the store.

    They are where [snapshot] target says: in a directory or in a bucket of S3.
    """


@snapshot.command("list", epilog=_STATUSES)
@_common
def list_snapshots(config: str | None, as_json: bool, **more: bool) -> int:
    """List the snapshots at the target, newest first.

    Whatever else is there is neither shown nor touched.
    """
    from ghmirror_tw.cli.inspect_snapshots import show_list  # noqa: PLC0415 - see `ctl`

    return _with_desk(config, Output(as_json, **more), show_list)


@snapshot.command(epilog=_STATUSES)
@click.argument("name")
@_common
def show(name: str, config: str | None, as_json: bool, **more: bool) -> int:
    """Show what is in the snapshot NAME.

    Says whose it is and of when, whether it is whole, and how much there is of each sort of
    record; nothing of what the records hold.
    """
    from ghmirror_tw.cli import inspect_snapshots  # noqa: PLC0415 - see `ctl`

    return _with_desk(
        config, Output(as_json, **more), lambda desk: inspect_snapshots.show(desk, name)
    )


@snapshot.command(epilog=_STATUSES)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--newest", is_flag=True, help="Only the newest one.")
@_common
def verify(
    names: Sequence[str], newest: bool, config: str | None, as_json: bool, **more: bool
) -> int:
    """Say of snapshots whether they are what was written.

    Reads each to its end: all that are at the target, the newest one, or those that are named. Of
    a damaged one it is said what is wrong, and up to which byte it could be read. The exit status
    is 1 if one is damaged, and also if there is none.
    """
    from ghmirror_tw.cli import inspect_snapshots  # noqa: PLC0415 - see `ctl`

    if names and newest:
        raise click.UsageError("either names, or --newest")
    out = Output(as_json, **more)
    return _with_desk(
        config, out, lambda desk: inspect_snapshots.verify(desk, names, newest=newest)
    )


@snapshot.command(epilog=_STATUSES)
@_common
def save(config: str | None, as_json: bool, **more: bool) -> int:
    """Make a snapshot of the store in Redis now.

    One replica at a time makes them, and whoever has made one keeps the lease for most of
    [snapshot] interval. While another one has it, this says so, and the exit status is 1.
    Snapshots beyond [snapshot] keep are deleted.

    A memory store can't be saved from outside: its mirror does so itself.
    """
    from ghmirror_tw.cli import save_and_restore  # noqa: PLC0415 - see `ctl`

    return _with_desk(config, Output(as_json, **more), save_and_restore.save)


@snapshot.command(epilog=_STATUSES)
@click.argument("name", required=False)
@_common
def restore(name: str | None, config: str | None, as_json: bool, **more: bool) -> int:
    """Fill the store in Redis from the snapshot NAME.

    Without a NAME from the newest that is usable: of this store, or else of any. It is read twice,
    first to check it. Nothing that is newer in the store is replaced, so mirrors may go on serving
    meanwhile; then the store counts as filled.

    A memory store can't be filled from outside: its mirror does so itself when it starts.
    """
    from ghmirror_tw.cli import save_and_restore  # noqa: PLC0415 - see `ctl`

    return _with_desk(
        config, Output(as_json, **more), lambda desk: save_and_restore.restore(desk, name)
    )


def _with_desk(config: str | None, out: Output, act: Any) -> int:
    from ghmirror_tw.cli.commands import with_desk  # noqa: PLC0415 - see `ctl`

    return with_desk(config, out, act)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command, and exit with its status."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_main(typed))


def _main(typed: list[str]) -> int:
    out = Output(as_json="--json" in typed, quiet=True)
    try:
        status: int | None = cli.main(typed, prog_name="ghmirror", standalone_mode=False)
    except click.ClickException as error:
        if out.as_json:
            out.failed(CommandError("usage", error.format_message(), error.exit_code))
        else:
            error.show()
        return error.exit_code
    except click.Abort:
        out.failed(CommandError("interrupted", "interrupted", Status.INTERRUPTED))
        return Status.INTERRUPTED
    except CommandError as error:
        out.failed(error)
        return error.status
    return status or Status.OK
