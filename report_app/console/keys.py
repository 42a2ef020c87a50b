"""/ops/keys: lists, makes, rotates and revokes API keys. A secret is shown once, in the answer that made it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from flask import Response, abort, request
from marshmallow import ValidationError
from werkzeug.wrappers import Response as BaseResponse

from analytics.access.api_key import SCOPES
from analytics.access.schema import REVOKE_GRACE, NewKey, ends_at
from analytics.access.store import ApiKeyStore
from analytics.languages import gettext, translatable
from analytics.schema_fields import normalized
from analytics.sites.store import UnknownSite
from report_app.console.access import owner
from report_app.console.console_page import FieldErrors, by_field, console_page, done, lines_of
from report_app.page_blueprint import PageBlueprint

log = structlog.get_logger()

GONE = translatable("There is no such API key, or it is revoked or has expired.")


def add_keys(blueprint: PageBlueprint, store: ApiKeyStore, clock: Callable[[], datetime]) -> None:
    @blueprint.get("/ops/keys")
    def keys() -> Response:
        return _page(store, clock())

    @blueprint.post("/ops/keys")
    def create_key() -> Response:
        try:
            secret = _create(store, clock())
        except ValidationError as error:
            return _page(store, clock(), errors=by_field(normalized(error)))
        except UnknownSite as error:
            return _page(store, clock(), errors={"sites": [gettext(error.message)]})
        return _page(store, clock(), secret=secret)

    @blueprint.post("/ops/keys/<uuid:key_id>/rotate")
    def rotate_key(key_id: UUID) -> Response:
        _, secret = store.rotate(key_id, REVOKE_GRACE) or abort(404, GONE)
        log.info("api_key_rotated", key=str(key_id), by=str(owner().id))
        return _page(store, clock(), secret=secret)

    @blueprint.post("/ops/keys/<uuid:key_id>/revoke")
    def revoke_key(key_id: UUID) -> BaseResponse:
        key = store.revoke(key_id) or abort(404, GONE)
        log.info("api_key_revoked", key=str(key_id), by=str(owner().id))
        return done(gettext("The key %(name)s is revoked. It stops working within 5 seconds.", name=key.name), "keys")


def _create(store: ApiKeyStore, now: datetime) -> str:
    """The secret of the key that the form asks for. Raises ValidationError, UnknownSite and Unavailable."""
    form = request.form
    asked: dict[str, Any] = {
        "name": form.get("name", "").strip(),
        "scopes": form.getlist("scopes"),
        "sites": lines_of(form.get("sites", "")) or None,
        "expires_in": form.get("expires_in", "").strip() or None,
    }
    new = NewKey().load(asked)
    key, secret = store.create(new["name"], new["scopes"], new.get("sites"), ends_at(new, now))
    log.info("api_key_created", key=str(key.id), by=str(owner().id))
    return secret


def _page(store: ApiKeyStore, now: datetime, *, secret: str = "", errors: FieldErrors | None = None) -> Response:
    rows = [(key, key.state(now)) for key in store.list()]
    given = request.form if errors else {}
    return console_page(
        "keys",
        400 if errors else 200,
        rows=rows,
        scopes=SCOPES,
        secret=secret,
        errors=errors or {},
        given=given,
        chosen=request.form.getlist("scopes") if errors else [],
    )
