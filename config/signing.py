"""Signs what we hand out and take back: a token that a browser keeps, a link. What is signed is readable by anybody.

In: the settings, and what the tokens are for; one made for something else is not taken. Out: itsdangerous' serializer,
whose `loads` raises BadSignature. It signs with SECRET_KEY and takes what SECRET_KEY_OLD signed, so that the key can be
changed while tokens are out.
"""

from itsdangerous import URLSafeTimedSerializer

from config.settings import Settings

# Of development only: production does not start without a SECRET_KEY.
UNSET = "development-only"


def make_signer(settings: Settings, purpose: str) -> URLSafeTimedSerializer:
    keys = [key for key in (settings.secret_key_old, settings.secret_key) if key]
    return URLSafeTimedSerializer(keys or [UNSET], salt=f"footfall.{purpose}")
