"""The HTTP proxy through which GitHub is reached, as the options name it."""

from __future__ import annotations

from collections.abc import Callable

from ghmirror_tw.config.address_kinds import proxy_at
from ghmirror_tw.config.option import ConfigError
from ghmirror_tw.config.settings import GitHub
from ghmirror_tw.http.tunnels import OutboundProxy
from ghmirror_tw.upstream.connection_errors import ProxyError


def build_outbound_proxy(github: GitHub) -> Callable[[], OutboundProxy] | None:
    """Return a function that reads the proxy's address and credentials; None without a proxy.

    It is called for each new connection. It raises `ProxyError`, which names the option, if the
    file with the proxy's URL can no longer be read.
    """
    if not github.proxy and not github.proxy_path:
        return None

    def current_proxy() -> OutboundProxy:
        try:
            url = github.current_proxy()
        except ConfigError as error:
            raise ProxyError(str(error)) from error
        return proxy_at(url)

    return current_proxy
