"""/admin/keys: lists, creates, rotates and revokes API keys. Needs the scope of the administrator.

The answer that creates or rotates a key is the only one that shows its secret. As all answers of the app, it has the
header `Cache-Control: no-store`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, TypedDict
from uuid import UUID

from flask import Blueprint, Response, abort
from marshmallow import ValidationError

from analytics.access.api_key import ADMIN_SCOPE, READ_SCOPE
from analytics.access.schema import KeyJson, NewKey, Rotation, dump_key, ends_at
from analytics.access.store import ApiKeyStore
from analytics.json_schema import Json, just
from analytics.schema_fields import normalized
from analytics.sites.store import UnknownSite
from report_app.site_lookup import SITE_EXAMPLE
from web.auth import Check
from web.errors import BadRequest, error_body, error_response
from web.openapi import JSON, Operation, described_by
from web.request_data import read, read_body

NO_KEY = "There is no API key {}. GET /admin/keys lists them."
NOT_ACTIVE = "The API key {} is revoked or has expired. Make another one."


class KeysJson(TypedDict):
    keys: list[KeyJson]


class KeyShown(KeyJson):
    key: Annotated[str, "The API key itself. Only this response shows it."]


_TAG = "API keys"
_NOT_KEPT: Json = {"Cache-Control": {"required": True, "schema": just("no-store")}}
_LIST = Operation(
    summary="List all API keys, including expired and revoked ones, newest first, without their secrets", tag=_TAG
)
_CREATE = Operation(
    summary="Make an API key. Only this response shows its secret.",
    tag=_TAG,
    note=f"A key with the scope `{ADMIN_SCOPE}` is for all sites. Send at most one of `expires_at` and `expires_in`.",
    body={JSON: NewKey},
    headers=_NOT_KEPT,
    says={400: "`not_json` or `invalid_query`. `fields` says what is wrong."},
    examples={"body": {"name": "Dashboard", "scopes": [READ_SCOPE], "sites": [SITE_EXAMPLE], "expires_in": "90d"}},
)
_ROTATE = Operation(
    summary="Make a new secret. Only this response shows it. The old secret works until `grace` is over.",
    tag=_TAG,
    body={JSON: Rotation},
    body_required=False,
    headers=_NOT_KEPT,
    says={409: "`key_not_active`: the key is revoked or has expired."},
)
_REVOKE = Operation(summary="Revoke an API key", tag=_TAG)


def keys_blueprint(keys: ApiKeyStore, auth: Check, clock: Callable[[], datetime]) -> Blueprint:
    blueprint = Blueprint("keys", __name__, url_prefix="/admin/keys")
    blueprint.before_request(auth)

    @blueprint.get("")
    @described_by(_LIST)
    def list_keys() -> KeysJson:
        """All keys that were ever created, the newest first."""
        return {"keys": [dump_key(key, clock()) for key in keys.list()]}

    @blueprint.post("")
    @described_by(_CREATE)
    def create() -> KeyShown:
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
        return {**dump_key(key, clock()), "key": secret}

    @blueprint.post("/<uuid:key_id>/rotate")
    @described_by(_ROTATE)
    def rotate(key_id: UUID) -> KeyShown | Response:
        """Gives the key a new secret. The old secret stays valid for the grace period."""
        grace = read(Rotation(), read_body(b"{}"))["grace"]
        rotated = keys.rotate(key_id, grace)
        if not rotated:
            return _cannot_rotate(key_id)
        key, secret = rotated
        return {**dump_key(key, clock()), "key": secret}

    def _cannot_rotate(key_id: UUID) -> Response:
        if not keys.has(key_id):
            abort(404, NO_KEY.format(key_id))
        return error_response(409, error_body("key_not_active", NOT_ACTIVE.format(key_id)))

    @blueprint.post("/<uuid:key_id>/revoke")
    @described_by(_REVOKE)
    def revoke(key_id: UUID) -> KeyJson:
        key = keys.revoke(key_id) or abort(404, NO_KEY.format(key_id))
        return dump_key(key, clock())

    return blueprint
