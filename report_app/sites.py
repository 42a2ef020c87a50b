"""/admin/sites: what is set for each site; /admin/write-keys: another write key for one."""

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Blueprint, Response, abort, jsonify, request
from marshmallow import Schema, fields
from marshmallow.validate import Range

from analytics.events.schema import Text
from analytics.journal.ledger import Ledger
from analytics.queries.query_schema import LONGEST_SITE_ID
from analytics.sites.schema import InvalidSite, dump_site, load_changes, load_site
from analytics.sites.store import SiteStore, Taken
from report_app.ledger import shown_time
from web.auth import Check
from web.errors import BadRequest
from web.request_data import read, read_body

# A site_id may hold slashes. Merged, they would be another site's; and nothing may follow it that one could end with.
_SITE = "/sites/<path:site_id>"
_WRITE_KEY = "/write-keys/<path:site_id>"


class SitesPage(Schema):
    limit = fields.Integer(validate=Range(1, 1000), load_default=100)
    after = Text(longest=128, load_default="")


def sites_blueprint(sites: SiteStore, books: Ledger, auth: Check) -> Blueprint:
    blueprint = Blueprint("sites", __name__, url_prefix="/admin")
    blueprint.before_request(auth)
    blueprint.before_request(_may_be_one)

    @blueprint.get("/sites")
    def list_sites() -> Response:
        """Those that something is set for."""
        query = read(SitesPage(), request.args)
        page = [dump_site(site) for site in sites.list(query["after"], query["limit"])]
        return jsonify(sites=page, after=page[-1]["site_id"] if len(page) == query["limit"] else None)

    @blueprint.get(_SITE, merge_slashes=False)
    def show(site_id: str) -> Response:
        """Also when ingestion last accepted an event of the site."""
        return jsonify(
            dump_site(sites.get(site_id)) | {"last_event_received": shown_time(books.last_received(site_id))}
        )

    @blueprint.put(_SITE, merge_slashes=False)
    def put(site_id: str) -> Response:
        """All settings at once: what the body leaves out is as where nothing is set, but the write key stays."""
        with _naming_settings():
            return jsonify(dump_site(sites.put(load_site(site_id, read_body()))))

    @blueprint.patch(_SITE, merge_slashes=False)
    def change(site_id: str) -> Response:
        """The settings that the body names; all others stay. null stands for the default of a setting."""
        with _naming_settings():
            return jsonify(dump_site(sites.change(*load_changes(site_id, read_body()))))

    @blueprint.post(_WRITE_KEY, merge_slashes=False)
    def rotate_write_key(site_id: str) -> Response:
        """Pages with the old key are sites that nobody knows, until they have the new one."""
        site = sites.rotate_write_key(site_id) or abort(404, f"Nothing is set for a site {site_id!r}.")
        return jsonify(dump_site(site))

    @blueprint.delete(_SITE, merge_slashes=False)
    def remove(site_id: str) -> Response:
        return jsonify(success=True, removed=int(sites.remove(site_id)))

    return blueprint


@contextmanager
def _naming_settings() -> Iterator[None]:
    """Settings that cannot be are a BadRequest that names them."""
    try:
        yield
    except InvalidSite as error:
        raise BadRequest("invalid_site", str(error), error.fields) from None
    except Taken as error:
        raise BadRequest("invalid_site", str(error), {error.field: [str(error)]}) from None


def _may_be_one() -> None:
    if len((request.view_args or {}).get("site_id", "")) > LONGEST_SITE_ID:
        abort(404, f"No site is called so: that is longer than {LONGEST_SITE_ID} characters.")
