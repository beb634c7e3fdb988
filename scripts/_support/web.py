"""HTTP requests with the proxies and CA bundles of the environment, and short texts for their errors.

Proxies: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY. CA bundles: SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE,
else the system's. Python 3.7, standard library only.
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
RETRYABLE = (408, 416, 425, 429)  # 4xx statuses after which a retry may succeed (RFC 9110, 8470, 6585)


class RetryableError(Exception):
    """A download failed; a retry may succeed."""


class PermanentError(Exception):
    """A download failed; a retry of the same url would fail again."""


def host(url: str) -> str:
    """The host and port of a url, also of an invalid one, without user name and password."""
    return re.sub(r"^\w+://", "", url).rsplit("@", 1)[-1].split("/")[0]


def is_plain_url(url: str) -> bool:
    """Whether a url is http or https and has no user name, password or query, which may contain secrets."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        is_plain = bool(parts.hostname) and "@" not in parts.netloc and not parts.query and parts.port != 0  # may raise
        return parts.scheme in ("http", "https") and is_plain
    return False


def proxies() -> dict[str, str]:
    """{scheme: proxy} of the environment; ALL_PROXY applies to http and https if they have none of their own."""
    by_scheme = urllib.request.getproxies()
    for scheme in ("http", "https"):
        if "all" in by_scheme:
            by_scheme.setdefault(scheme, by_scheme["all"])
    return by_scheme


def proxy_of(url: str) -> str:
    """The proxy that the environment names for a url, or an empty text."""
    return "" if urllib.request.proxy_bypass(host(url)) else proxies().get(urlsplit(url).scheme, "")


def new_opener() -> urllib.request.OpenerDirector:
    """An opener with the proxies and the CA bundle of the environment, else the system's CA bundle."""
    name = next((name for name in CA_BUNDLES if os.environ.get(name)), None)
    bundle = os.environ[name] if name else None
    try:
        folder = bool(bundle) and os.path.isdir(str(bundle))
        context = ssl.create_default_context(cafile=None if folder else bundle, capath=bundle if folder else None)
    except OSError as error:  # also ssl.SSLError
        die(f"{name}={bundle}", f"not a CA bundle ({error.strerror or error})", f"correct or unset {name}")
    director = urllib.request.OpenerDirector()  # build_opener would follow redirects to ftp: and file: urls
    for handler in (
        *(urllib.request.ProxyHandler(proxies()), urllib.request.UnknownHandler(), Redirects()),
        *(urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(context=context)),
        *(urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor()),
    ):
        director.add_handler(handler)
    return director


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows the redirects of urllib and also 308 (RFC 9110), which Python 3.10 does not support."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        fp.close()  # else its whole body would be read into memory
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_308(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        return self.http_error_302(req, fp, 307, msg, headers)


def download_error(url: str, error: Exception) -> Exception:
    """The PermanentError or RetryableError for an exception of urllib, with a short reason without secrets."""
    if isinstance(error, urllib.error.HTTPError):
        if 300 <= error.code < 400:
            is_loop = "infinite loop" in str(error.msg)
            return PermanentError("redirect loop" if is_loop else f"HTTP {error.code}, redirect refused")
        is_retryable = error.code in RETRYABLE or error.code >= 500
        return (RetryableError if is_retryable else PermanentError)(
            cli.one_line(f"HTTP {error.code} {str(error.msg)[:100]}")
        )
    inner = getattr(error, "reason", error)
    if isinstance(inner, ssl.SSLCertVerificationError):
        return PermanentError(f"certificate not trusted ({inner.verify_message}; set SSL_CERT_FILE to your CA bundle)")
    if isinstance(error, (ValueError, http.client.InvalidURL)) or "unknown url type" in str(inner):
        return PermanentError(
            "a proxy or redirect that is not an http url"
        )  # the url is not shown: it may contain a password
    proxy = proxy_of(url)
    by = f" (through the proxy {host(proxy)})" if proxy else ""
    return RetryableError(
        cli.one_line(str(getattr(inner, "strerror", None) or inner or type(inner).__name__)[:100]) + by
    )


def open_url(url: str, begin: int) -> Any:
    """The response to a request for the bytes of a url from offset `begin`; raises Permanent- or RetryableError."""
    headers = {"User-Agent": PROJECT, "Accept-Encoding": "identity"}
    if begin:
        headers["Range"] = f"bytes={begin}-"
    proxy = proxy_of(url)
    if not re.match(r"https?://|(?!\w+://)", proxy):
        raise PermanentError(f"unsupported proxy {host(proxy)}: only http and https proxies work")
    try:
        return new_opener().open(urllib.request.Request(url, headers=headers))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise download_error(url, error) from None
