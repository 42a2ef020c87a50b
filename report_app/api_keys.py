"""/admin/keys: lists, creates, rotates and revokes API keys. Needs the scope of the administrator.

The answer that creates or rotates a key is the only one that shows its secret.
"""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from flask import Blueprint, Response, abort, jsonify
from marshmallow import ValidationError

from analytics.access.schema import NewKey, Rotation, dump_key, ends_at
from analytics.access.store import ApiKeyStore
from analytics.schema_fields import normalized
from analytics.sites.store import UnknownSite
from web.auth import Check
from web.errors import BadRequest, error_body, error_response
from web.request_data import read, read_body

NO_KEY = "There is no API key {}."
NOT_ACTIVE = "The API key {} is revoked or has expired. Make another one."


def keys_blueprint(keys: ApiKeyStore, auth: Check, clock: Callable[[], datetime]) -> Blueprint:
    blueprint = Blueprint("keys", __name__, url_prefix="/admin/keys")
    blueprint.before_request(auth)

    @blueprint.get("")
    def list_keys() -> Response:
        """All keys that were ever created, the newest first."""
        return jsonify(keys=[dump_key(key, clock()) for key in keys.list()])

    @blueprint.post("")
    def create() -> Response:
        asked = read(NewKey(), read_body())
        try:
            end = ends_at(asked, clock())
        except ValidationError as error:
            names = normalized(error)
            raise BadRequest("invalid_query", f"The request is not valid: see {', '.join(names)}.", names) from None
        try:
            key, secret = keys.create(asked["name"], asked["scopes"], asked.get("sites"), end)
        except UnknownSite as error:
            raise BadRequest("unknown_site", error.message, {"sites": [error.message]}) from None
        return _once(dump_key(key, clock()) | {"key": secret})

    @blueprint.post("/<uuid:key_id>/rotate")
    def rotate(key_id: UUID) -> Response:
        """Gives the key a new secret. The old secret stays valid for the grace period."""
        grace = read(Rotation(), read_body(b"{}"))["grace"]
        rotated = keys.rotate(key_id, grace)
        if not rotated:
            return _cannot_rotate(key_id)
        key, secret = rotated
        return _once(dump_key(key, clock()) | {"key": secret})

    def _cannot_rotate(key_id: UUID) -> Response:
        if not keys.has(key_id):
            abort(404, NO_KEY.format(key_id))
        return error_response(409, error_body("key_not_active", NOT_ACTIVE.format(key_id)))

    @blueprint.post("/<uuid:key_id>/revoke")
    def revoke(key_id: UUID) -> Response:
        key = keys.revoke(key_id) or abort(404, NO_KEY.format(key_id))
        return jsonify(dump_key(key, clock()))

    return blueprint


def _once(shown: dict[str, object]) -> Response:
    """An answer that no cache may store."""
    answer = jsonify(shown)
    answer.headers["Cache-Control"] = "no-store"
    return answer
