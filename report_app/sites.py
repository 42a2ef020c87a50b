"""/admin/sites: the settings of each site. /admin/write-keys: a new write key for a site."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypedDict

from flask import Blueprint, Response, abort, jsonify, request
from marshmallow import Schema, fields
from marshmallow.validate import Range

from analytics.journal.ledger import Ledger
from analytics.json_schema import TEXT, Json, an_object, list_of, or_null, schema_of
from analytics.queries.query_schema import LONGEST_SITE_ID
from analytics.schema_fields import Text
from analytics.sites.schema import SITE_JSON, InvalidSite, SiteSchema, dump_site, load_changes, load_site
from analytics.sites.store import SiteStore, Taken
from report_app.ledger import LastReceived, shown_time
from report_app.query_json_schema import SITE_ID
from report_app.site_lookup import SITE_EXAMPLE
from web.auth import Check
from web.errors import BadRequest
from web.openapi import JSON, Operation, described_by
from web.request_data import read, read_body

# A site_id may hold slashes. If slashes were merged, it would name another site. The route has no suffix after it,
# because a site_id could end with the suffix.
_SITE = "/sites/<path:site_id>"
_WRITE_KEY = "/write-keys/<path:site_id>"


class SitesPage(Schema):
    limit = fields.Integer(validate=Range(1, 1000), load_default=100)
    after = Text(longest=128, load_default="")


class SiteRemoved(TypedDict):
    success: Literal[True]
    removed: Literal[0, 1]


SITE_SET: Json = {
    "timezone": "Europe/Berlin",
    "goals": [{"event_type": "signup"}, {"page": "/docs/**"}],
    "shows_visitors": True,
}

_TAG = "Sites"
_INVALID = {
    400: "`not_json` or `invalid_site`. `fields` says what is wrong. Two sites cannot share a domain or a write key."
}
_LIST = Operation(
    summary="List the sites that have settings",
    tag=_TAG,
    query=SitesPage,
    answer={JSON: an_object({"sites": list_of(SITE_JSON), "after": or_null(TEXT)})},
)
_SHOW = Operation(
    summary="Settings of a site, or the defaults if it has none",
    tag=_TAG,
    variables={"site_id": SITE_ID},
    answer={JSON: an_object(SITE_JSON["properties"] | {"last_event_received": schema_of(LastReceived)})},
    examples={"site_id": SITE_EXAMPLE},
)
_PUT = Operation(
    summary="Replace all settings of a site",
    tag=_TAG,
    note="A setting that the body leaves out gets its default. The body may repeat `site_id`.",
    variables={"site_id": SITE_ID},
    body={JSON: SiteSchema(partial=("site_id",))},
    answer={JSON: SITE_JSON},
    says=_INVALID,
    examples={"site_id": SITE_EXAMPLE, "body": SITE_SET},
)
_CHANGE = Operation(
    summary="Change some settings of a site",
    tag=_TAG,
    note="Only the settings in the body change. null resets a setting to its default, except `write_key`, which stays. "
    "If the site has no settings, all settings that are not in the body get their defaults.",
    variables={"site_id": SITE_ID},
    body={JSON: SiteSchema(partial=("site_id",))},
    answer={JSON: SITE_JSON},
    says=_INVALID,
    examples={"site_id": SITE_EXAMPLE, "body": {"retention_days": 400, "timezone": None}},
)
_ROTATE = Operation(
    summary="Make a new write key. Events with the old write key are no longer counted for this site.",
    tag=_TAG,
    variables={"site_id": SITE_ID},
    answer={JSON: SITE_JSON},
    says={404: "This site has no settings."},
)
_REMOVE = Operation(summary="Delete the settings of a site. Its events stay.", tag=_TAG, variables={"site_id": SITE_ID})


def sites_blueprint(sites: SiteStore, ledger: Ledger, auth: Check) -> Blueprint:
    blueprint = Blueprint("sites", __name__, url_prefix="/admin")
    blueprint.before_request(auth)
    blueprint.before_request(_may_be_one)

    @blueprint.get("/sites")
    @described_by(_LIST)
    def list_sites() -> Response:
        """The sites that are set up."""
        query = read(SitesPage(), request.args)
        page = [dump_site(site) for site in sites.list(query["after"], query["limit"])]
        return jsonify(sites=page, after=page[-1]["site_id"] if len(page) == query["limit"] else None)

    @blueprint.get(_SITE, merge_slashes=False)
    @described_by(_SHOW)
    def show(site_id: str) -> Response:
        """The settings, and when ingestion last accepted an event of the site."""
        return jsonify(
            dump_site(sites.get(site_id)) | {"last_event_received": shown_time(ledger.last_received(site_id))}
        )

    @blueprint.put(_SITE, merge_slashes=False)
    @described_by(_PUT)
    def put(site_id: str) -> Response:
        """Replaces all settings. A setting that the body leaves out gets its default, but the write key stays."""
        with _naming_settings():
            return jsonify(dump_site(sites.put(load_site(site_id, read_body()))))

    @blueprint.patch(_SITE, merge_slashes=False)
    @described_by(_CHANGE)
    def change(site_id: str) -> Response:
        """Changes the settings that the body names. The others stay. null stands for a setting's default."""
        with _naming_settings():
            return jsonify(dump_site(sites.change(*load_changes(site_id, read_body()))))

    @blueprint.post(_WRITE_KEY, merge_slashes=False)
    @described_by(_ROTATE)
    def rotate_write_key(site_id: str) -> Response:
        """Gives the site a new write key.

        Pages with the old key send to an unknown site until they have the new key.
        """
        site = sites.rotate_write_key(site_id) or abort(404, f"The site {site_id!r} has no settings. Set it up first.")
        return jsonify(dump_site(site))

    @blueprint.delete(_SITE, merge_slashes=False)
    @described_by(_REMOVE)
    def remove(site_id: str) -> SiteRemoved:
        return {"success": True, "removed": 1 if sites.remove(site_id) else 0}

    return blueprint


@contextmanager
def _naming_settings() -> Iterator[None]:
    """Converts errors about settings to a BadRequest that names them."""
    try:
        yield
    except InvalidSite as error:
        raise BadRequest("invalid_site", str(error), error.fields) from None
    except Taken as error:
        raise BadRequest("invalid_site", str(error), {error.field: [str(error)]}) from None


def _may_be_one() -> None:
    if len((request.view_args or {}).get("site_id", "")) > LONGEST_SITE_ID:
        abort(404, f"There is no such site: a site_id has at most {LONGEST_SITE_ID} characters.")
