"""The command line: commands, their options, and their help."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TypeVar

import click

from ghmirror_tw import __version__
from ghmirror_tw.cli.command_errors import CommandError, Status
from ghmirror_tw.cli.output import Output

F = TypeVar("F", bound=Callable[..., Any])

_STATUSES: Final = """\b
Exit status:
  0    success
  1    a fault was found, or the operation was not performed
  2    the command line or the configuration is not valid
  3    the store, the target or the mirror cannot be reached, or refuses
  130  ended by Ctrl-C (143: by SIGTERM)
"""

_SETTINGS: Final = {"help_option_names": ["-h", "--help"]}


def _common(command: F) -> F:
    """Add the options that all commands have."""
    for option in (
        click.option("--verbose", "-v", is_flag=True, help="Write the log to stderr."),
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
    """Operate ghmirror, the caching reverse proxy for the GitHub API.

    Commands read the configuration of the mirror: an INI file, and environment variables
    GHMIRROR_<SECTION>_<OPTION>, which override it.
    """


@cli.command("check-config", epilog=_STATUSES)
@_common
def check_config(config: str | None, as_json: bool, **more: bool) -> int:
    """Report all faults of a configuration.

    Each fault is reported with its section and option, and so are warnings about values that are
    valid but probably not intended. No connection is opened. With a fault the mirror would not
    start, and the exit status is 1.
    """
    from ghmirror_tw.cli.check_config import check_config as check  # noqa: PLC0415 - see `cli`

    return check(config, Output(as_json, **more))


@cli.command(epilog=_STATUSES)
@click.option(
    "--url",
    metavar="URL",
    help="The mirror's admin port, such as http://mirror:8081; by default that of [server] "
    "admin_listen on this machine.",
)
@click.option("--once", is_flag=True, help="Show the status once, as lines.")
@click.option(
    "--interval",
    "-n",
    "interval_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0.5, max=3600.0),
    default=2.0,
    help="The interval of updates on a terminal; 2 by default.",
)
@_common
def top(
    url: str | None, once: bool, interval_s: float, config: str | None, as_json: bool, **more: bool
) -> int:
    """Show the status of a mirror, as its status page does.

    GitHub, the store and rate limits; quota saved and spent by user; latencies; what spends the
    quota; outcomes, snapshots, and the busiest paths. On a terminal it is updated until q or
    Ctrl-C, elsewhere it is shown once.
    """
    from ghmirror_tw.cli.top import show_status  # noqa: PLC0415 - see `cli`

    return show_status(config, url, Output(as_json, **more), interval_s, once=once)


@cli.group(epilog=_STATUSES)
def snapshot() -> None:
    """List, save, verify and restore snapshots of the store.

    They are at [snapshot] target: in a directory or in a bucket of S3.
    """


@snapshot.command("list", epilog=_STATUSES)
@_common
def list_snapshots(config: str | None, as_json: bool, **more: bool) -> int:
    """List the snapshots at the target, newest first.

    Other files are neither shown nor changed.
    """
    from ghmirror_tw.cli.inspect_snapshots import show_list  # noqa: PLC0415 - see `cli`

    return _run(config, Output(as_json, **more), show_list)


@snapshot.command(epilog=_STATUSES)
@click.argument("name")
@_common
def show(name: str, config: str | None, as_json: bool, **more: bool) -> int:
    """Show the content of the snapshot NAME.

    Shows its owner and time, whether it is undamaged, and the number and size of each kind of
    record; not the content of records.
    """
    from ghmirror_tw.cli import inspect_snapshots  # noqa: PLC0415 - see `cli`

    return _run(
        config, Output(as_json, **more), lambda context: inspect_snapshots.show(context, name)
    )


@snapshot.command(epilog=_STATUSES)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--newest", is_flag=True, help="Only the newest one.")
@_common
def verify(
    names: Sequence[str], newest: bool, config: str | None, as_json: bool, **more: bool
) -> int:
    """Verify that snapshots are undamaged.

    Reads each to its end: all at the target, the newest one, or those with a NAME. For a damaged
    one, the fault is reported and the byte up to which it is valid. The exit status is 1 if one is
    damaged, and also if there is none.
    """
    from ghmirror_tw.cli import inspect_snapshots  # noqa: PLC0415 - see `cli`

    if names and newest:
        raise click.UsageError("names and --newest cannot be combined")
    out = Output(as_json, **more)
    return _run(
        config, out, lambda context: inspect_snapshots.verify(context, names, newest=newest)
    )


@snapshot.command(epilog=_STATUSES)
@_common
def save(config: str | None, as_json: bool, **more: bool) -> int:
    """Save the store in Redis as a snapshot now.

    Only one replica saves at a time, and it keeps the lease for most of [snapshot] interval. While
    another replica has the lease, nothing is saved, and the exit status is 1. Snapshots beyond
    [snapshot] keep are deleted.

    A memory store cannot be saved by this command: its mirror saves it.
    """
    from ghmirror_tw.cli import save_and_restore  # noqa: PLC0415 - see `cli`

    return _run(config, Output(as_json, **more), save_and_restore.save)


@snapshot.command(epilog=_STATUSES)
@click.argument("name", required=False)
@_common
def restore(name: str | None, config: str | None, as_json: bool, **more: bool) -> int:
    """Restore the store in Redis from the snapshot NAME.

    Without a NAME, the newest usable snapshot is restored: of this store, or else of any. It is
    read twice, first to check it. Newer records in the store are not replaced, so mirrors may
    serve meanwhile; then the store counts as restored.

    A memory store cannot be restored by this command: its mirror restores it at its start.
    """
    from ghmirror_tw.cli import save_and_restore  # noqa: PLC0415 - see `cli`

    return _run(
        config, Output(as_json, **more), lambda context: save_and_restore.restore(context, name)
    )


def _run(config: str | None, out: Output, command: Any) -> int:
    from ghmirror_tw.cli.snapshot_context import run_with_context  # noqa: PLC0415 - see `cli`

    return run_with_context(config, out, command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command, and exit with its status."""
    sys.exit(_main(list(sys.argv[1:] if arguments is None else arguments)))


def _main(arguments: list[str]) -> int:
    out = Output(as_json="--json" in arguments, quiet=True)
    try:
        status: int | None = cli.main(arguments, prog_name="ghmirror", standalone_mode=False)
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
