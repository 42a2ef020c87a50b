"""What a page's Content-Security-Policy allows, as far as a script with a URL and a request need it. Pure.

Source: https://www.w3.org/TR/CSP3/#match-url-to-source-expression
"""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

_SOURCE = re.compile(r"(?:([a-z][a-z0-9+.-]*)://)?(\*|(?:\*\.)?[a-z0-9.-]+)(?::(\d+|\*))?(/.*)?", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}
SCRIPT = ("script-src-elem", "script-src", "default-src")
CONNECT = ("connect-src", "default-src")


def blocking(policies: Iterable[str], names: tuple[str, ...], url: str, page: str, nonce: str = "") -> str:
    """The directive that blocks the URL on the page. "" if all policies allow it. `names`: SCRIPT or CONNECT."""
    for policy in policies:
        directives: dict[str, list[str]] = {}
        for words in filter(None, map(str.split, policy.split(";"))):
            directives.setdefault(words[0].lower(), words[1:])
        name = next((name for name in names if name in directives), "")
        if name and not _allows(directives[name], url, page, nonce):
            return f"{name} {' '.join(directives[name])}".strip()
    return ""


def _allows(sources: list[str], url: str, page: str, nonce: str) -> bool:
    if nonce and f"'nonce-{nonce}'" in sources:
        return True
    return "'strict-dynamic'" not in sources and any(_matches(source, url, page) for source in sources)


def _matches(source: str, url: str, page: str) -> bool:
    target, own = urlsplit(url), urlsplit(page)
    if source == "*":
        return True
    if source.lower() == "'self'":
        return (target.scheme, target.netloc) == (own.scheme, own.netloc)
    if source.endswith(":"):
        return target.scheme in (source[:-1].lower(), source[:-1].lower() + "s")
    if not (parts := _SOURCE.fullmatch(source)):
        return False
    scheme, host, port, path = parts.groups()
    wanted = (scheme or own.scheme).lower()
    return (
        target.scheme in (wanted, wanted + "s")
        and _is_host(host.lower(), target.hostname or "")
        and (port == "*" or (target.port or _PORTS[target.scheme]) == int(port or _PORTS[target.scheme]))
        and (not path or path == target.path or (path.endswith("/") and target.path.startswith(path)))
    )


def _is_host(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*") else host == pattern
