"""/admin/sites: the settings of each site. /admin/write-keys: a new write key for a site."""

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Blueprint, Response, abort, jsonify, request
from marshmallow import Schema, fields
from marshmallow.validate import Range

from analytics.journal.ledger import Ledger
from analytics.queries.query_schema import LONGEST_SITE_ID
from analytics.schema_fields import Text
from analytics.sites.schema import InvalidSite, dump_site, load_changes, load_site
from analytics.sites.store import SiteStore, Taken
from report_app.ledger import shown_time
from web.auth import Check
from web.errors import BadRequest
from web.request_data import read, read_body

# A site_id may hold slashes. If slashes were merged, it would name another site. The route has no suffix after it,
# because a site_id could end with the suffix.
_SITE = "/sites/<path:site_id>"
_WRITE_KEY = "/write-keys/<path:site_id>"


class SitesPage(Schema):
    limit = fields.Integer(validate=Range(1, 1000), load_default=100)
    after = Text(longest=128, load_default="")


def sites_blueprint(sites: SiteStore, ledger: Ledger, auth: Check) -> Blueprint:
    blueprint = Blueprint("sites", __name__, url_prefix="/admin")
    blueprint.before_request(auth)
    blueprint.before_request(_may_be_one)

    @blueprint.get("/sites")
    def list_sites() -> Response:
        """The sites that are set up."""
        query = read(SitesPage(), request.args)
        page = [dump_site(site) for site in sites.list(query["after"], query["limit"])]
        return jsonify(sites=page, after=page[-1]["site_id"] if len(page) == query["limit"] else None)

    @blueprint.get(_SITE, merge_slashes=False)
    def show(site_id: str) -> Response:
        """The settings, and when ingestion last accepted an event of the site."""
        return jsonify(
            dump_site(sites.get(site_id)) | {"last_event_received": shown_time(ledger.last_received(site_id))}
        )

    @blueprint.put(_SITE, merge_slashes=False)
    def put(site_id: str) -> Response:
        """Replaces all settings. A setting that the body leaves out gets its default, but the write key stays."""
        with _naming_settings():
            return jsonify(dump_site(sites.put(load_site(site_id, read_body()))))

    @blueprint.patch(_SITE, merge_slashes=False)
    def change(site_id: str) -> Response:
        """Changes the settings that the body names. The others stay. null stands for a setting's default."""
        with _naming_settings():
            return jsonify(dump_site(sites.change(*load_changes(site_id, read_body()))))

    @blueprint.post(_WRITE_KEY, merge_slashes=False)
    def rotate_write_key(site_id: str) -> Response:
        """Gives the site a new write key.

        Pages with the old key send to an unknown site until they have the new key.
        """
        site = sites.rotate_write_key(site_id) or abort(404, f"The site {site_id!r} has no settings.")
        return jsonify(dump_site(site))

    @blueprint.delete(_SITE, merge_slashes=False)
    def remove(site_id: str) -> Response:
        return jsonify(success=True, removed=int(sites.remove(site_id)))

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
