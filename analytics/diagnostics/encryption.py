"""TLS between Footfall and its stores: which connections have none, and why a connection with TLS fails."""

import re
from ipaddress import ip_address
from urllib.parse import parse_qsl, urlsplit

from analytics.diagnostics.finding import Finding, problem

# An error of OpenSSL in the text of a driver's error.
_OF_OPENSSL = re.compile(r"\[SSL: (?P<code>\w+)\] (?P<reason>.+?)(?: \(_ssl\.c|$)")
_REMEDIES = {  # by how the reason begins
    "certificate has expired": "Renew the certificate of the server.",
    "certificate is not yet valid": "Check the clocks of both hosts, and the certificate of the server.",
    "Hostname mismatch": "Use a name of the server that is in its certificate.",
    "IP address mismatch": "Use an address or a name of the server that is in its certificate.",
}


def hosts_without_tls(url: str) -> list[str]:
    """Return the hosts of a store's URL that are not this machine, and are reached without TLS."""
    parts, options = urlsplit(url), _options(url)
    encrypted = options.get("tls") or options.get("ssl") or str(parts.scheme in ("rediss", "mongodb+srv"))
    if encrypted.lower() == "true":
        return []
    hosts = [urlsplit(f"//{each}").hostname or "" for each in parts.netloc.rpartition("@")[2].split(",")]
    return [host for host in hosts if not _is_this_machine(host)]


def trusts_any_certificate(url: str) -> bool:
    """Whether an option of a store's URL turns off the check of the server's certificate, or of its name."""
    options = _options(url)
    on = ("tlsinsecure", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames")
    return (
        any(options.get(name) == "true" for name in on)
        or options.get("ssl_cert_reqs", "required") != "required"
        or options.get("ssl_check_hostname", "true") in ("false", "f", "no", "n", "0")
    )


def tls_problem(error: Exception | None, server: str, setting: str, option: str) -> Finding | None:
    """Say what is wrong if TLS is the cause of an error, otherwise None. The drivers keep only the text of the cause.

    `server`: as "Redis at db:6379". `option`: of `setting`, the one that names the file of the authority.
    """
    found = _OF_OPENSSL.search(str(error))
    if not found:
        return None
    if found["code"] != "CERTIFICATE_VERIFY_FAILED":
        remedy = (
            f"Correct {setting} if the server has no TLS, or expects a certificate of its clients (docs/stores.md)."
        )
        return problem(f"There is no TLS with {server}: {found['reason']}.", remedy)
    reason = found["reason"].removeprefix("certificate verify failed: ").rstrip(".")
    unknown = f"Set {option} in {setting} to the file with the certificate of the authority that signed it."
    remedy = next((_REMEDIES[begin] for begin in _REMEDIES if reason.startswith(begin)), unknown)
    return problem(f"The certificate of {server} is not accepted: {reason}.", remedy)


def _options(url: str) -> dict[str, str]:
    return {name.lower(): value.lower() for name, value in parse_qsl(urlsplit(url).query)}


def _is_this_machine(host: str) -> bool:
    if host in ("", "localhost") or host.lower().startswith("%2f"):  # a Unix socket has no host, or is a path
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
