"""Passwords: what is accepted, and their Argon2id hashes.

The parameters are those that OWASP recommends first for Argon2id with little memory: 19 MiB, 2 passes, 1 lane (about
25 ms). At most `_AT_ONCE` hashes are computed at the same time in one process, so that sign-ins cost 38 MiB at most.
"""

import unicodedata
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 256  # characters
_AT_ONCE = 2

_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
# Of a random password that was not kept. It has the parameters of new hashes, so that checking it takes the same time.
HASH_OF_NONE = "$argon2id$v=19$m=19456,t=2,p=1$tSlyy5cb2JL0yx65moAseA$N2ue7ryFUh06832nww2D8jcpgubVp1y0APMB07+WPjQ"
_turns = BoundedSemaphore(_AT_ONCE)


def hash_password(password: str) -> str:
    with _turns:
        return _HASHER.hash(_plain(password))


def is_password(password: str, password_hash: str | None) -> bool:
    """Whether the password has this hash. None is the hash of an account that does not exist: the answer is False, and
    takes the same time.
    """
    if len(password) > LONGEST_PASSWORD:
        return False
    with _turns:
        try:
            _HASHER.verify(password_hash or HASH_OF_NONE, _plain(password))
        except (VerificationError, InvalidHashError):
            return False
    return password_hash is not None


def needs_new_hash(password_hash: str) -> bool:
    """Whether the hash has other parameters than new hashes have."""
    return _HASHER.check_needs_rehash(password_hash)


def _plain(password: str) -> bytes:
    """Keyboards send accented letters as one character or as two: NFKC makes them equal, as NIST SP 800-63B asks."""
    return unicodedata.normalize("NFKC", password).encode(errors="surrogatepass")
