"""The proxy to go out through, as the settings say."""

from __future__ import annotations

from collections.abc import Callable

from ghmirror_tw.config.settings import ConfigError, GitHub
from ghmirror_tw.config.values import proxy_at
from ghmirror_tw.http.tunnels import OutboundProxy
from ghmirror_tw.upstream.dialling import ProxyError


def proxy_of(github: GitHub) -> Callable[[], OutboundProxy] | None:
    """Return what says where the proxy is now, and who to be for it; None: there is none.

    What it returns raises `ProxyError`, which names the option, if a file can't be read any more.
    """
    if not github.proxy and not github.proxy_path:
        return None

    def proxy() -> OutboundProxy:
        try:
            url = github.current_proxy()
        except ConfigError as error:
            raise ProxyError(str(error)) from error
        return proxy_at(url)

    return proxy
