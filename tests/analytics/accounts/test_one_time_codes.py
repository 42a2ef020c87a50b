"""One-time codes: those of RFC 6238, the tolerance for clocks, and recovery codes."""

from base64 import b32encode
from datetime import UTC, datetime

import pytest

from analytics.accounts.one_time_codes import (
    is_totp_secret,
    new_recovery_codes,
    new_totp_secret,
    recovery_digest,
    totp_step,
    totp_uri,
)

# RFC 6238, appendix B: the secret, and the last six digits of its codes for SHA-1
SECRET = b32encode(b"12345678901234567890").decode()
VECTORS = [(1111111109, "081804"), (1234567890, "005924"), (2000000000, "279037")]


@pytest.mark.parametrize(("seconds", "code"), VECTORS)
def test_the_codes_are_those_of_the_standard(seconds: int, code: str):
    step = seconds // 30
    for late, found in ((0, step), (30, step), (-30, step), (90, None), (-90, None)):
        assert totp_step(SECRET, code, datetime.fromtimestamp(seconds + late, UTC)) == found


@pytest.mark.parametrize(
    "code", ["", "287081", "28708", "2870820", "\uff12\uff18\uff17\uff10\uff18\uff12", "\ud800", "a" * 10_000]
)
def test_anything_else_is_no_code(code: str):
    assert totp_step(SECRET, code, datetime.fromtimestamp(59, UTC)) is None


def test_a_code_may_be_written_in_two_groups():
    assert totp_step(SECRET, " 287 082 ", datetime.fromtimestamp(59, UTC)) == 1


def test_a_secret_has_160_bits_and_an_app_reads_it():
    secret = new_totp_secret()
    assert is_totp_secret(secret)
    assert not any(map(is_totp_secret, ("", secret.lower(), secret[:-1], secret + "A", secret[:-1] + "1")))
    assert totp_uri(secret, "a@b.example") == f"otpauth://totp/Footfall:a%40b.example?secret={secret}&issuer=Footfall"


def test_recovery_codes_differ_and_may_be_written_in_any_way():
    codes = new_recovery_codes()
    assert len({recovery_digest(code) for code in codes}) == 10
    assert recovery_digest(f" {codes[0].replace('-', ' ').upper()} ") == recovery_digest(codes[0])
    assert recovery_digest("\ud800") != recovery_digest("")
