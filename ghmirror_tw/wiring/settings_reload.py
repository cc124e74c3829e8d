"""Reload of the options that may change while the mirror runs (SIGHUP)."""

from __future__ import annotations

from typing import Final

from attrs import frozen
from twisted.logger import Logger

from ghmirror_tw.caching.credential_names import CredentialNames
from ghmirror_tw.config.option import ConfigError
from ghmirror_tw.config.settings import changed_options
from ghmirror_tw.config.settings_loader import read_settings
from ghmirror_tw.store.record_sealing import Codec
from ghmirror_tw.wiring.github_parts import build_github_trust
from ghmirror_tw.wiring.mirror_parts import MirrorParts
from ghmirror_tw.wiring.redis_parts import build_redis_trust

_log: Final = Logger(namespace="ghmirror")


@frozen
class SettingsReload:
    """Reads the configuration again and passes changed options to the parts of a mirror."""

    config_path: str | None
    parts: MirrorParts

    def reload(self) -> None:
        """Update the list of users and the content of all `*_path` files.

        Other changed options are named in the log. If the configuration has a fault, nothing is
        changed.
        """
        try:
            settings = read_settings(self.config_path)
            secrets = settings.cache.credential_secrets()
            github_trust = build_github_trust(settings.github)
            redis_trust = build_redis_trust(settings.redis)
            self._check_restrictions(settings.server.allowed_users, next(iter(secrets), b""))
        except ConfigError as error:
            for fault in error.faults:
                _log.error("Configuration not reloaded: {fault}", fault=fault)
            return
        parts, limit = self.parts, self.parts.settings.cache.max_stored_size
        mirror = parts.mirror
        mirror.options.allowed_users = settings.server.allowed_users
        credentials = mirror.credentials
        names = CredentialNames.by(secrets, credentials.names.origin)
        if names.secrets != credentials.names.secrets:
            credentials.rename(names)
        if parts.redis is not None:
            parts.redis.redis.use(Codec.by(secrets, limit))
        if parts.stores.redis_trust is not None:
            parts.stores.redis_trust.current = redis_trust
        if parts.snapshots is not None:
            parts.snapshots.use(Codec.by(secrets, limit))
        parts.client.use(github_trust)
        if parts.status_page is not None:
            parts.status_page.use(github_trust)
        _log.info("Configuration reloaded: users, secrets and certificate authorities")
        if changed := changed_options(parts.settings, settings):
            options = ", ".join(changed)
            _log.warn("Restart needed by changed options: options={options}", options=options)

    def _check_restrictions(self, allowed_users: frozenset[str], secret: bytes) -> None:
        """Raise `ConfigError` if a restriction would be lifted.

        A file that is read while it is written may have lost its options.
        """
        mirror, faults = self.parts.mirror, []
        if mirror.options.allowed_users and not allowed_users:
            faults.append("[server] allowed_users: it is not set any more; all users are allowed")
        if mirror.credentials.names.secret and not secret:
            faults.append("[cache] credential_secret: it is not set any more")
        if faults:
            raise ConfigError([f"{each} only after a restart" for each in faults])
