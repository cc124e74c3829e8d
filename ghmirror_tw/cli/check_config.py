"""`ghmirror check-config`: reports all faults and warnings of a configuration."""

from __future__ import annotations

from ghmirror_tw.cli import value_formatting
from ghmirror_tw.cli.command_errors import Status
from ghmirror_tw.cli.command_runner import command_errors
from ghmirror_tw.cli.output import Output
from ghmirror_tw.config.exposures import exposures
from ghmirror_tw.config.option import ConfigError
from ghmirror_tw.config.settings_loader import read_settings
from ghmirror_tw.wiring.tls_trust import build_trust


def check_config(path: str | None, out: Output) -> Status:
    """Report the faults and warnings of the configuration at *path*."""
    with command_errors(out):
        faults, warnings = _faults_and_warnings(path)
    for word, texts in (("fault", faults), ("warning", warnings)):
        for text in texts:
            out.verdict(word, f": {text}")
    if faults:
        out.line(f"Not valid: {value_formatting.count(len(faults), 'fault')}.")
    else:
        out.line("Valid.")
    out.document({"valid": not faults, "faults": faults, "warnings": warnings})
    return Status.FAULT if faults else Status.OK


def _faults_and_warnings(path: str | None) -> tuple[list[str], list[str]]:
    faults: list[str] = []
    try:
        settings = read_settings(path)
    except ConfigError as error:
        return error.faults, []
    # A mirror reads these files only when it starts.
    for section, name, ca_path in (
        ("github", "ca_path", settings.github.ca_path),
        ("redis", "tls_ca_path", settings.redis.tls_ca_path),
    ):
        try:
            build_trust(section, name, ca_path)
        except ConfigError as error:
            faults += error.faults
    return faults, [*settings.warnings, *exposures(settings)]
