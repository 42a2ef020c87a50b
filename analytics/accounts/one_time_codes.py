"""Codes for two-step sign-in: those of an authenticator app (TOTP, RFC 6238), and recovery codes. Pure."""

import re
import secrets
from base64 import b32encode
from datetime import datetime

import pyotp

from analytics.digest import digest_of

RECOVERY_CODES = 10
_STEP = 30  # seconds, the default of every app
_TOLERANCE = 1  # steps that a clock may be behind or ahead
_SECRET = re.compile("[A-Z2-7]{32}")


def new_totp_secret() -> str:
    return pyotp.random_base32()


def is_totp_secret(text: str) -> bool:
    return bool(_SECRET.fullmatch(text))


def totp_uri(secret: str, email: str) -> str:
    """Return what an app reads from the QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name="Footfall")


def totp_step(secret: str, code: str, now: datetime) -> int | None:
    """Return the time step whose code this is, or None. Spaces in the code do not count.

    The caller must refuse a step that is not later than the last one that was used.
    """
    given = re.sub(r"\s", "", code).encode(errors="surrogatepass")
    totp = pyotp.TOTP(secret)
    current = int(now.timestamp()) // _STEP
    steps = range(current - _TOLERANCE, current + _TOLERANCE + 1)
    found = [step for step in steps if secrets.compare_digest(totp.generate_otp(step).encode(), given)]
    return found[-1] if found else None


def new_recovery_codes() -> list[str]:
    """Return codes of 80 random bits, such as `abcd-efgh-ijkl-mnop`."""
    return ["-".join(re.findall("....", _random_letters())) for _ in range(RECOVERY_CODES)]


def recovery_digest(code: str) -> str:
    """Return the SHA-256 of a recovery code. Spaces, hyphens and capitals in the code do not count."""
    return digest_of(re.sub(r"[\s-]", "", code).lower())


def _random_letters() -> str:
    return b32encode(secrets.token_bytes(10)).decode().lower()
