"""/ops/sites: adds a site, shows what to put into its pages, and changes its settings.

A site_id may hold slashes, so each route ends with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from flask import Response, abort, flash, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from analytics.json_input import NotJson, read_json
from analytics.languages import gettext, translatable
from analytics.queries.query_schema import check_site_id
from analytics.segments.store import SegmentStore
from analytics.sites.schema import InvalidSite, dump_site, load_changes
from analytics.sites.site import Site
from analytics.sites.store import SiteStore, Taken
from report_app.console.access import owner
from report_app.console.console_page import FieldErrors, by_field, console_page, done, lines_of
from report_app.console.goal_rows import GoalRow, by_row, filled, rows_of, sent_rows, with_change
from report_app.page_access import address_of, site_path
from report_app.page_blueprint import PageBlueprint
from report_app.texts import lazy

log = structlog.get_logger()

NO_SETTINGS = translatable("There is no site with this name that has settings.")
OTHER_PATHS = translatable(
    "Reports use the rules for paths that were applied before, also for new events. The page Data applies the new ones."
)
SITES_ON_A_PAGE = 100


@dataclass(frozen=True, slots=True)
class SettingField:
    """A setting as a field of the form. `kind` "lines": a list, one item on each line. `choices`: the values that a
    text may have, and what they are called.
    """

    name: str
    label: str
    kind: Literal["text", "number", "flag", "lines"] = "text"
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()


SETTING_FIELDS = (
    SettingField(
        "domains", lazy("Domains"), "lines", lazy("Events of other hosts are dropped. None: events of any host count.")
    ),
    SettingField(
        "timezone", lazy("Time zone"), hint=lazy("For example Europe/Berlin. Days of reports begin at its midnight.")
    ),
    SettingField(
        "allowed_origins", lazy("Allowed origins"), "lines", lazy("Browsers may send from these only. None: from any.")
    ),
    SettingField(
        "excluded_paths", lazy("Excluded pages"), "lines", lazy("* stands for a part of a path, ** for any text.")
    ),
    SettingField(
        "excluded_ips", lazy("Excluded addresses"), "lines", lazy("Addresses or networks such as 192.0.2.0/24.")
    ),
    SettingField(
        "allowed_parameters", lazy("Kept parameters"), "lines", lazy("Parameters of a page's query that are kept.")
    ),
    SettingField("retention_days", lazy("Days to keep data"), "number", lazy("Empty: for ever.")),
    SettingField(
        "backdate_days", lazy("Oldest event, in days"), "number", lazy("Of events that are sent without an API key.")
    ),
    SettingField("max_event_bytes", lazy("Largest event, in bytes"), "number"),
    SettingField(
        "trailing_slash",
        lazy("Slash at the end of a path"),
        choices=(("keep", lazy("stays")), ("drop", lazy("is removed"))),
    ),
    SettingField(
        "path_case",
        lazy("Capital letters in a path"),
        choices=(("keep", lazy("stay")), ("lower", lazy("become small letters"))),
    ),
    SettingField(
        "path_rules",
        lazy("Pages that count as one"),
        "lines",
        lazy("For example /user/:id. The first that fits counts."),
    ),
    SettingField(
        "script_path", lazy("Path of the script"), hint=lazy("For example /kit/k.js. Empty: /js/footfall.js only.")
    ),
    SettingField("endpoint_path", lazy("Path of the events"), hint=lazy("For example /kit/k. Empty: /events only.")),
    SettingField("honours_dnt", lazy("Drop hits with Do Not Track or GPC"), "flag"),
    SettingField("assigns_visits", lazy("Assign the events before a sign-in to the user"), "flag"),
    SettingField("shows_visitors", lazy("The history of a visitor may be seen and queried"), "flag"),
)


def add_sites(blueprint: PageBlueprint, store: SiteStore, segments: SegmentStore, ingestion_port: int) -> None:
    @blueprint.get("/ops/sites")
    def sites() -> Response:
        found = store.list(request.args.get("after", ""), SITES_ON_A_PAGE)
        after = found[-1].site_id if len(found) == SITES_ON_A_PAGE else None
        return console_page("sites", sites=found, after=after)

    @blueprint.route("/ops/sites/new", methods=["GET", "POST"])
    def new_site() -> BaseResponse:
        """Adds a site, and opens its dashboard, which shows the snippet and waits for the first event."""
        if request.method == "GET":
            return _form({}, {})
        errors = _add(store, request.form.get("site_id", "").strip())
        return _form(request.form, errors) if errors else redirect(site_path(request.form["site_id"].strip()), 303)

    @blueprint.route("/ops/site/<path:site_id>", methods=["GET", "POST"], merge_slashes=False)
    def edit_site(site_id: str) -> BaseResponse:
        site = _found(store, site_id)
        if request.method == "GET":
            return _settings(site, ingestion_port, _texts(site), rows_of(site.goals))
        rows, texts = sent_rows(request.form), {each.name: request.form.get(each.name, "") for each in SETTING_FIELDS}
        if change := request.form.get("goal_rows"):
            return _settings(site, ingestion_port, texts, with_change(rows, change), changed=change)
        rows = filled(rows)
        if errors := _change(store, site_id, _sent_settings(texts) | {"goals": [row.as_json() for row in rows]}):
            return _settings(site, ingestion_port, texts, rows, errors=errors)
        if segments.reads_other_paths(store.get(site_id)):
            flash(gettext(OTHER_PATHS))
        return done(gettext("The settings of %(site)s are changed.", site=site_id), "edit_site", site_id=site_id)

    @blueprint.post("/ops/rotate-write-key/<path:site_id>", merge_slashes=False)
    def rotate_write_key(site_id: str) -> BaseResponse:
        store.rotate_write_key(check_site_id(site_id)) or abort(404, NO_SETTINGS)
        log.info("write_key_rotated", site_id=site_id, by=str(owner().id))
        said = gettext("The site has a new write key. The old one stops working within 5 seconds.")
        return done(said, "edit_site", site_id=site_id)

    @blueprint.route("/ops/remove-site/<path:site_id>", methods=["GET", "POST"], merge_slashes=False)
    def remove_site(site_id: str) -> BaseResponse:
        site = _found(store, site_id)
        if request.method == "GET":
            return console_page("site_remove", within="sites", site=site)
        store.remove(site.site_id)
        log.info("site_removed", site_id=site.site_id, by=str(owner().id))
        return done(gettext("The settings of %(site)s are removed. Its events stay.", site=site.site_id), "sites")


def _found(store: SiteStore, site_id: str) -> Site:
    return store.read(check_site_id(site_id)) or abort(404, NO_SETTINGS)


def _add(store: SiteStore, site_id: str) -> FieldErrors:
    """Returns what is wrong with the fields, {} if the site is there now."""
    if site_id and store.find(site_id):
        return {"site_id": [gettext("Another site has this name or domain.")]}
    sent = {"domains": lines_of(request.form.get("domain", "")), "timezone": request.form.get("timezone", "") or None}
    return _change(store, site_id, sent)


def _change(store: SiteStore, site_id: str, sent: dict[str, Any]) -> FieldErrors:
    try:
        store.change(*load_changes(site_id, sent))
    except InvalidSite as error:
        return by_field(by_row(error.fields))
    except Taken as error:
        return {error.field: [gettext(str(error))]}
    log.info("site_changed", site_id=site_id, settings=sorted(sent), by=str(owner().id))
    return {}


def _form(given: Any, errors: FieldErrors) -> Response:
    return console_page("site_new", 400 if errors else 200, within="sites", given=given, errors=errors)


def _settings(
    site: Site,
    ingestion_port: int,
    texts: dict[str, str],
    goals: Sequence[GoalRow],
    *,
    errors: FieldErrors | None = None,
    changed: str = "",
) -> Response:
    """The page with the settings in `texts` and `goals`, which are stored ones or those that were sent. `changed`: the
    change of the rows of goals that was asked for.
    """
    return console_page(
        "site",
        400 if errors else 200,
        within="sites",
        site=site,
        fields=SETTING_FIELDS,
        texts=texts,
        goals=goals,
        errors=errors or {},
        changed=changed,
        collector=address_of(ingestion_port),
    )


def _texts(site: Site) -> dict[str, str]:
    settings = dump_site(site)
    return {each.name: _text(each, settings[each.name]) for each in SETTING_FIELDS}


def _text(field: SettingField, value: Any) -> str:
    match field.kind:
        case "lines":
            return "\n".join(value)
        case "flag":
            return "on" if value else ""
    return "" if value is None else str(value)


def _sent_settings(texts: dict[str, str]) -> dict[str, Any]:
    return {each.name: _value(each, texts[each.name].strip()) for each in SETTING_FIELDS}


def _value(field: SettingField, text: str) -> Any:
    """The value as the API takes it. Text that cannot be read stays text, which the schema refuses."""
    if field.kind == "flag":
        return bool(text)
    if not text:
        return None
    if field.kind == "lines":
        return lines_of(text)
    if field.kind == "text":
        return text
    try:
        return read_json(text.encode(errors="surrogatepass"))
    except NotJson:
        return text
