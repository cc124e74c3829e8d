"""Builds the service of one mirror: its parts, its listeners and its log."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import ServerFactory
from twisted.python.logfile import LogFile

from ghmirror_tw.config.settings import Server, Settings
from ghmirror_tw.runtime.file_descriptors import max_client_connections, raise_descriptor_limit
from ghmirror_tw.service import MirrorService
from ghmirror_tw.telemetry import logs
from ghmirror_tw.web.admin_site import admin_site
from ghmirror_tw.web.client_connections import MirrorSite
from ghmirror_tw.web.listeners import Listener, SharingPorts, with_backlog
from ghmirror_tw.web.mirror_request import MirrorRequest
from ghmirror_tw.wiring.mirror_parts import build_mirror_parts
from ghmirror_tw.wiring.settings_reload import SettingsReload


def build_service(
    reactor: Any, settings: Settings, config_path: str | None, twistd: Mapping[str, Any]
) -> MirrorService:
    """Return the service of a mirror; *twistd* holds twistd's own options.

    Raises `ConfigError` if a file that an option names cannot be used.
    """
    parts = build_mirror_parts(reactor, settings)
    server = settings.server
    most = max_client_connections(raise_descriptor_limit(), settings.github.max_connections)
    site = MirrorSite(parts.resource, MirrorRequest, reactor, most)
    service = MirrorService(
        reactor,
        parts.resource,
        site,
        parts.readiness,
        parts.in_closing_order,
        SettingsReload(config_path, parts).reload,
        shutdown_delay_s=server.shutdown_delay,
        shutdown_grace_s=server.shutdown_grace,
        observer=logs.observer(
            log_stream(reactor, twistd),
            settings.log.format,
            settings.log.level,
            lambda seconds, call: reactor.callFromThread(reactor.callLater, seconds, call),
        ),
        warnings=settings.warnings,
        about=_summary(config_path, settings),
    )
    admin = admin_site(parts.admin, server.admin_hosts, reactor)
    daemon = not twistd.get("nodaemon", True)
    service.listeners += _listeners(reactor, server, site, admin, daemon=daemon)
    return service


def _listeners(
    reactor: Any,
    server: Server,
    site: ServerFactory[Any],
    admin: ServerFactory[Any],
    *,
    daemon: bool,
) -> Iterator[Listener]:
    """Yield a listener for each endpoint of the options.

    The admin port is never shared between processes: metrics would be those of any of them.
    """
    client_ports = SharingPorts(reactor) if server.reuse_port else reactor
    for description in server.listen:
        endpoint = serverFromString(client_ports, with_backlog(description))
        yield Listener("listening", "listen", description, endpoint, site, daemon)
    for description in server.admin_listen:
        endpoint = serverFromString(reactor, with_backlog(description))
        yield Listener("admin listening", "admin_listen", description, endpoint, admin, daemon)


def log_stream(reactor: Any, twistd: Mapping[str, Any]) -> Any:
    """Return the stream of twistd's own log: a file for a daemon or ``--logfile``, else stdout.

    SIGUSR1 rotates the file, as twistd does.
    """
    name = twistd.get("logfile")
    nodaemon = twistd.get("nodaemon", True)
    if name == "-" and not nodaemon:
        sys.stderr.write("A daemon cannot log to stdout: use --nodaemon or another --logfile\n")
        raise SystemExit(1)
    if name == "-" or (nodaemon and not name):
        return sys.stdout
    file = LogFile.fromFullPath(name or "twistd.log")
    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(file.rotate))
    return file


def _summary(config_path: str | None, settings: Settings) -> str:
    """Return the main settings in one line, for the log."""
    parts = {
        "config": "none" if config_path is None else Path(config_path).absolute(),
        "api_url": settings.github.api_url,
        "store": settings.cache.backend,
        "snapshots": settings.snapshot.target or "none",
    }
    return " ".join(f"{name}={_quoted(str(value))}" for name, value in parts.items())


def _quoted(text: str) -> str:
    """Return *text* in quotes if it has a space, so that the end of the value can be seen."""
    return f'"{text}"' if " " in text else text
