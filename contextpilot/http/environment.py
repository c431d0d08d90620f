"""What the environment says of the way to a server: its proxy, and whose certificates count.

One rule for all that speaks HTTP: a proxy by HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, in capitals or
not, never towards this machine itself nor towards what NO_PROXY names (names with all that ends
in them, addresses, ranges such as 10.0.0.0/8); certificates by the system's store, or by
SSL_CERT_FILE and SSL_CERT_DIR.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from contextpilot.http.address import Address, is_loopback

if TYPE_CHECKING:
    import ssl


def proxy_for(address: Address) -> str | None:
    """Return the URL of the proxy towards a server; None: it is asked directly."""
    if is_loopback(address.host):
        return None
    from urllib.request import getproxies, proxy_bypass  # they take a while to import

    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    place = f"{address.host}:{address.port}"
    if not proxy or proxy_bypass(place) or _is_in_range(address.host, proxies.get("no", "")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def tls_context() -> ssl.SSLContext:
    """Return the way TLS is spoken: names and certificates are checked."""
    import ssl

    return ssl.create_default_context()


def _is_in_range(host: str, named: str) -> bool:
    try:
        own = ipaddress.ip_address(host)
    except ValueError:
        return False
    for name in named.split(","):
        try:
            if own in ipaddress.ip_network(name.strip(), strict=False):
                return True
        except ValueError:  # a name
            continue
    return False
