"""Requests as the environment asks for them, and their faults in a few words; shapes no artifact's bytes.

Proxies: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY. CA bundles: SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE,
else the system's. Python 3.7 and newer, with the standard library alone.
"""

from __future__ import annotations

from _support import PROJECT, cli
from _support.cli import die

import contextlib
import http.client
import os
import re
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

CA_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PASSING = (408, 416, 425, 429)  # the statuses of 4xx that another try may mend (RFC 9110, 8470, 6585)


class RetryableError(Exception):
    """A download that another try may mend."""


class PermanentError(Exception):
    """A url that no other try will mend."""


def host(url: str) -> str:
    """The host and port of a url, also of a broken one: all that a message needs, and no password."""
    return re.sub(r"^\w+://", "", url).rsplit("@", 1)[-1].split("/")[0]


def is_plain_url(url: str) -> bool:
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        plain = bool(parts.hostname) and "@" not in parts.netloc and not parts.query and parts.port != 0  # may raise
        return parts.scheme in ("http", "https") and plain
    return False


def proxies() -> dict[str, str]:
    found = urllib.request.getproxies()
    for scheme in ("http", "https"):
        if "all" in found:
            found.setdefault(scheme, found["all"])
    return found


def proxy_of(url: str) -> str:
    """The proxy that the environment names for a url, or an empty text."""
    return "" if urllib.request.proxy_bypass(host(url)) else proxies().get(urlsplit(url).scheme, "")


def new_opener() -> urllib.request.OpenerDirector:
    """What opens a url as the environment asks for: its proxies, its CA bundle or else the system's."""
    name = next((name for name in CA_BUNDLES if os.environ.get(name)), None)
    bundle = os.environ[name] if name else None
    try:
        folder = bool(bundle) and os.path.isdir(str(bundle))
        context = ssl.create_default_context(cafile=None if folder else bundle, capath=bundle if folder else None)
    except OSError as error:  # also ssl.SSLError
        die(f"{name}={bundle}", f"no CA bundle ({error.strerror or error})", f"mend or unset {name}")
    made = urllib.request.OpenerDirector()  # not build_opener, which would follow a redirect to ftp or a file
    for handler in (
        *(urllib.request.ProxyHandler(proxies()), urllib.request.UnknownHandler(), Redirects()),
        *(urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(context=context)),
        *(urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor()),
    ):
        made.add_handler(handler)
    return made


class Redirects(urllib.request.HTTPRedirectHandler):
    """Those of urllib, and 308 (RFC 9110), which Python 3.10 does not know."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        fp.close()  # or its body, however long, would be read into memory
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_308(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        return self.http_error_302(req, fp, 307, msg, headers)


def download_error(url: str, error: Exception) -> Exception:
    """PermanentError or RetryableError, with the reason in a few words."""
    if isinstance(error, urllib.error.HTTPError):
        if 300 <= error.code < 400:
            circle = "infinite loop" in str(error.msg)
            return PermanentError(
                "redirects in a circle" if circle else f"HTTP {error.code}, a redirect that is refused"
            )
        passing = error.code in PASSING or error.code >= 500
        return (RetryableError if passing else PermanentError)(
            cli.one_line(f"HTTP {error.code} {str(error.msg)[:100]}")
        )
    inner = getattr(error, "reason", error)
    if isinstance(inner, ssl.SSLCertVerificationError):
        return PermanentError(f"certificate not trusted ({inner.verify_message}; name your CA bundle in SSL_CERT_FILE)")
    if isinstance(error, (ValueError, http.client.InvalidURL)) or "unknown url type" in str(inner):
        return PermanentError("a proxy, or a redirect, to what is no http url")  # its text may hold a password
    proxy = proxy_of(url)
    by = f" (through the proxy {host(proxy)})" if proxy else ""
    return RetryableError(
        cli.one_line(str(getattr(inner, "strerror", None) or inner or type(inner).__name__)[:100]) + by
    )


def open_url(url: str, begin: int) -> Any:
    """The answer to a request of a url's bytes from `begin` on."""
    headers = {"User-Agent": PROJECT, "Accept-Encoding": "identity"}
    if begin:
        headers["Range"] = f"bytes={begin}-"
    proxy = proxy_of(url)
    if not re.match(r"https?://|(?!\w+://)", proxy):
        raise PermanentError(f"its proxy {host(proxy)} is not one for http, such as SOCKS")
    try:
        return new_opener().open(urllib.request.Request(url, headers=headers))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise download_error(url, error) from None
