"""OpenAPI operations of the reporting app: one entry of _OPERATIONS per route (web/openapi.py describes an entry)."""

from functools import cache
from typing import Any

from marshmallow import fields

from analytics.access import api_key as may
from analytics.access.schema import Lasting, NewKey, Rotation
from analytics.events.event import DESCRIBED
from analytics.events.schema import EventSchema
from analytics.privacy.visitor_data import Found
from analytics.queries.exploration_schema import (
    OF_VISIT,
    STEP_KINDS,
    DateRange,
    FunnelSchema,
    JourneysSchema,
    QueryFilter,
    RetentionSchema,
    StepSchema,
    is_window,
)
from analytics.queries.query import GRAINS
from analytics.queries.query_schema import FARTHEST_ROW, MOST_DIMENSIONS, MOST_ROWS
from analytics.sites.schema import Domain, GoalSchema, Network, OriginField, SiteSchema, is_zone
from analytics.urls import LONGEST_HOST
from report_app import dead_letters, sites
from report_app.csv_output import CSV
from report_app.data_subjects import Whose
from report_app.export import FORMATS
from report_app.ledger import MOST_DAYS, LedgerQuery
from report_app.query_json_schema import (
    CODE,
    COMPONENTS,
    DATE_TEXT,
    METRIC_NAMES,
    PERIOD_NAME,
    QUERY,
    SITE_ID,
    VALUE,
    up_to,
)
from report_app.stats import Day, RealtimeQuery, StatsQuery
from report_app.url_parameters import PROP as PROP_BEGINS
from report_app.url_parameters import SHORT_DIMENSIONS
from report_app.visitors import LONGEST_USER_ID, MOST_VISITS
from web.json_schema import (
    FLAG,
    MOMENT,
    NUMBER,
    TEXT,
    UUID,
    WHOLE_COUNT,
    Json,
    Rule,
    an_object,
    any_of,
    just,
    list_of,
    map_of,
    one_of,
    or_null,
    text,
    whole,
)
from web.openapi import JSON, NDJSON, PLAUSIBLES, Operation, common, describe, ref

_ABOUT = """\
Reports about your sites, in exact numbers, and the administration of the server.

Send the key as `Authorization: Bearer <key>`. If the server has no REPORT_KEY, reports need no key, except those that
show individual visitors.

Every error is `{"success": false, "error": {"code", "message", "fields"}}`. Under `/api/v2` it is `{"error": message}`.
A request that is not HTTP, or whose first line or headers are too long, gets 400, 414, 431 or 501 in the first form, on
every route.
"""

# Parts of answers

_MONEY = an_object({"value": NUMBER, "currency": TEXT, "short": TEXT, "long": TEXT})
METRIC = any_of(NUMBER, _MONEY, {"type": "null"})
PERIOD_SAID = {"from": MOMENT, "to": MOMENT}
PAGE_VIEWS = list_of(an_object({"page": TEXT, "pageviews": WHOLE_COUNT}), maxItems=10)
LATELY = an_object({"visitors": WHOLE_COUNT, "pageviews": WHOLE_COUNT, "top_pages": PAGE_VIEWS})
ROWS = list_of({"type": "object", "additionalProperties": any_of(TEXT, METRIC)})
_FOUND = an_object(
    {"site_id": TEXT, **PERIOD_SAID, "results": ROWS},
    {"total_rows": WHOLE_COUNT, "as_of": MOMENT | {"description": "Events stored after this time may be missing."}},
)
STATS = an_object(
    {
        "site_id": TEXT,
        "date": any_of(text(format="date"), just("all_time")),
        "total_views": WHOLE_COUNT,
        "unique_users": WHOLE_COUNT,
        "top_paths": list_of(an_object({"path": TEXT, "views": WHOLE_COUNT}), maxItems=10),
    }
)
REALTIME = an_object({"site_id": TEXT, "as_of": MOMENT, "last_5_minutes": LATELY, "last_30_minutes": LATELY})

UNDERSTOOD = {"type": "object", "description": "The query as Footfall read it."}
COMPARISON = an_object(
    {
        "dimensions": list_of(TEXT),
        "metrics": list_of(METRIC),
        "change": list_of({"type": ["integer", "null"], "description": "A whole percentage."}),
    }
)
ROW = an_object({"dimensions": list_of(TEXT), "metrics": list_of(METRIC)}, {"comparison": or_null(COMPARISON)})
META = an_object({}, {"time_labels": list_of(TEXT), "total_rows": WHOLE_COUNT, "as_of": MOMENT})
ANSWER = an_object({"results": list_of(ROW), "meta": META, "query": UNDERSTOOD})

PERCENT = {"type": "number", "minimum": 0}
_STEP = an_object(
    {"label": TEXT, "count": WHOLE_COUNT, "share": PERCENT, "share_of_previous": PERCENT, "dropped": WHOLE_COUNT},
)
COHORT = an_object(
    {"cohort": TEXT, "visitors": WHOLE_COUNT, "active": list_of(WHOLE_COUNT), "shares": list_of(PERCENT)}
)
PAGES = list_of(an_object({"page": or_null(TEXT), "count": WHOLE_COUNT}))

PAST_EVENT = an_object(
    {"timestamp": MOMENT, "name": TEXT},
    {
        "page": TEXT,
        "hostname": TEXT,
        "engagement_time": WHOLE_COUNT,
        "scroll_depth": WHOLE_COUNT,
        "revenue": _MONEY,
        "props": map_of(TEXT),
    },
)
PAST_VISIT = an_object(
    {
        "began_at": MOMENT,
        "duration": WHOLE_COUNT,
        "pageviews": WHOLE_COUNT,
        "bounce": FLAG,
        "entry_page": or_null(TEXT),
        "exit_page": or_null(TEXT),
        "events": list_of(PAST_EVENT),
    },
    dict.fromkeys(DESCRIBED, TEXT),
)
_CUT = {"type": "boolean", "const": True, "description": "The visitor has more events than one response may contain."}
VISITOR = an_object({"site_id": TEXT, "user_id": TEXT, **PERIOD_SAID, "visits": list_of(PAST_VISIT)}, {"cut": _CUT})

LETTER = an_object(
    {
        "id": UUID,
        "site_id": TEXT,
        "reason": TEXT,
        "detail": {"type": "object"},
        "attempts": WHOLE_COUNT,
        "received_at": MOMENT,
        "dead_at": MOMENT,
        "raw_bytes": WHOLE_COUNT,
    },
    {"raw": TEXT, "raw_base64": TEXT},
)
LETTERS_BY = list_of(an_object({"site_id": TEXT, "reason": TEXT, "count": WHOLE_COUNT}))

GOAL = an_object({"name": TEXT}, {"event_type": TEXT, "page": TEXT, "currency": TEXT})
_SITE = an_object(
    {
        "site_id": TEXT,
        "timezone": TEXT,
        "goals": list_of(GOAL),
        "shows_visitors": FLAG,
        "domains": list_of(TEXT),
        "allowed_origins": list_of(TEXT),
        "write_key": or_null(UUID),
        "honours_dnt": FLAG,
        "excluded_ips": list_of(TEXT),
        "excluded_paths": list_of(TEXT),
        "allowed_parameters": list_of(TEXT),
        "backdate_days": WHOLE_COUNT,
        "retention_days": or_null(WHOLE_COUNT),
        "trailing_slash": one_of("keep", "drop"),
        "max_event_bytes": WHOLE_COUNT,
    }
)

_LAST_RECEIVED = or_null(MOMENT) | {"description": "When Footfall last accepted an event of the site."}
BY_REASON = map_of(WHOLE_COUNT)
LEDGER = an_object(
    {
        "site_id": TEXT,
        "last_event_received": _LAST_RECEIVED,
        "from": text(format="date"),
        "to": text(format="date"),
        "days": list_of(
            an_object(
                {
                    "date": text(format="date"),
                    "received": WHOLE_COUNT,
                    "rejected": BY_REASON,
                    "dropped": BY_REASON,
                    "accepted": WHOLE_COUNT,
                    "replayed": WHOLE_COUNT,
                    "stored": WHOLE_COUNT,
                    "duplicate": WHOLE_COUNT,
                    "dead": WHOLE_COUNT,
                    "dropped_later": BY_REASON,
                    "waiting": WHOLE_COUNT,
                    "refused": BY_REASON,
                }
            )
        ),
    }
)

KEY_SAID = {
    "id": UUID,
    "name": TEXT,
    "scopes": list_of(one_of(*may.SCOPES)),
    "sites": or_null(list_of(TEXT)) | {"description": "null means all sites."},
    "state": one_of("active", "expired", "revoked"),
    "created_at": MOMENT,
    "expires_at": or_null(MOMENT),
    "revoked_at": or_null(MOMENT),
    "last_used_at": or_null(MOMENT),
}
API_KEY = an_object(KEY_SAID)
KEY_SHOWN = an_object(KEY_SAID | {"key": TEXT | {"description": "The API key itself. Only this response shows it."}})
NOT_KEPT: Json = {"Cache-Control": {"required": True, "schema": just("no-store")}}

# Parameters of reports in a URL


def query(name: str, schema: Json, about: str = "", required: bool = False, **more: object) -> Json:
    return {"name": name, "schema": schema, "required": required, **({"description": about} if about else {}), **more}


_NAMES = any_of(one_of(*SHORT_DIMENSIONS), text(pattern=rf"^{PROP_BEGINS.replace('.', '[.]')}[^,\s\u0000]+$"))
COMMAS: Json = {"style": "form", "explode": False}
WHICH = query("site_id", SITE_ID, "The id of the site, or one of its domains.", required=True)
FROM_TO = [
    query("from", DATE_TEXT, "The first day. Send it instead of `period`."),
    query("to", DATE_TEXT, "The last day. The default is today."),
]
_PERIOD = [query("period", PERIOD_NAME, "The default is the last 30 days, including today."), *FROM_TO]
OF_PROP = rf"^{PROP_BEGINS.replace('.', '[.]')}[^!\u0000]+!?$"
OPPOSITES = [f"{name}!" for name in SHORT_DIMENSIONS if name != "goal"]
_FILTERS = query(
    "filters",
    {
        "type": "object",
        "properties": {"country": CODE, "country!": CODE},
        "propertyNames": any_of(one_of(*SHORT_DIMENSIONS, *OPPOSITES), text(pattern=OF_PROP)),
        "additionalProperties": VALUE,
    },
    "Each dimension is a separate parameter, for example `country=DE`. `!` at the end of its name means `not`. The "
    "same parameter twice means `or`. Different parameters mean `and`. `goal` takes a goal of the site. There is no "
    "`goal!`.",
    style="form",
    explode=True,
)
_BOM = query("bom", one_of("0", "1"), "If 1, CSV begins with a byte order mark, which Excel needs.")
_FORMAT = [
    query("format", one_of("json", "csv"), "Overrides the Accept header."),
    _BOM,
]
_ASKED = [
    WHICH,
    *_PERIOD,
    query("metrics", METRIC_NAMES, **COMMAS),
    query("by", list_of(_NAMES, maxItems=MOST_DIMENSIONS - 1, uniqueItems=True), "Dimensions.", **COMMAS),
    query("limit", whole(1, MOST_ROWS)),
    query("offset", whole(0, FARTHEST_ROW)),
    *_FORMAT,
    _FILTERS,
]
GRAIN = query("grain", one_of(*GRAINS), "The default depends on the length of the period.")

# Errors

_QUESTION = "The query is not valid. `message` says what is wrong, and `fields` says it for each parameter."
_REFUSED = (
    "`busy` or `unavailable`, with Retry-After: send the request again. `time_limit` or `memory_limit`: query a "
    "shorter period."
)
_NO_SITE = "`unknown_site`: in production, the site is not set up. The message suggests a site with a similar name."
OF_QUESTIONS = {400: _QUESTION, 404: _NO_SITE, 503: _REFUSED}
NO_VISITORS_SHOWN = (
    "`visitors_not_shown`: `shows_visitors` is off for this site. `report_key_not_set`: the server has no REPORT_KEY. "
    "`forbidden`: the API key does not allow it."
)
EXPLORATIONS = {400: "`<JSON pointer>: <message>`", 404: _NO_SITE, 503: _REFUSED}
_TABLE = {CSV: TEXT}

SITE_EXAMPLE = "site-abc-123"
QUERY_EXAMPLE = {
    "site_id": SITE_EXAMPLE,
    "metrics": ["visitors", "bounce_rate"],
    "date_range": "30d",
    "dimensions": ["visit:source"],
    "filters": [["contains_not", "event:page", ["/internal"]]],
    "order_by": [["visitors", "desc"]],
    "include": {"comparisons": {"mode": "previous_period"}, "total_rows": True},
    "pagination": {"limit": 10, "offset": 0},
}
EXPLORED: Json = {"site_id": SITE_EXAMPLE, "date_range": "30d"}
_STEPS = [{"page": "/"}, {"event": "signup", "label": "Signed up"}]
SITE_SET: Json = {
    "timezone": "Europe/Berlin",
    "goals": [{"event_type": "signup"}, {"page": "/docs/**"}],
    "shows_visitors": True,
}

OVERVIEW, PROGRAMS, _RAW = "Reports", "Reports for programs", "Individual visitors, raw events"
SITES_TAG, KEYS, VISITORS, LETTERS = "Sites", "API keys", "Search, export and erase a visitor", "Dead letters"

WHOSE = "Send exactly one of `user_id` and `visitor_id`."
VISITOR_EXAMPLE: Json = {"site_id": SITE_EXAMPLE, "user_id": "user-xyz-789"}
AS_FILE: Json = {"Content-Disposition": {"required": True, "schema": TEXT}}


_OPERATIONS: dict[str, Operation] = {
    "GET /stats": Operation(
        summary="Summary of one day or of all time",
        tag=OVERVIEW,
        scope=may.READ_SCOPE,
        query=StatsQuery,
        answer={JSON: STATS},
        says=OF_QUESTIONS,
        examples={"site_id": SITE_EXAMPLE, "date": "2026-11-22"},
    ),
    "GET /stats/timeseries": Operation(
        summary="Metrics over time",
        tag=OVERVIEW,
        scope=may.READ_SCOPE,
        parameters=[*_ASKED, GRAIN],
        answer={JSON: _FOUND, **_TABLE},
        says=OF_QUESTIONS,
        examples={"site_id": SITE_EXAMPLE, "period": "7d", "metrics": ["visitors", "bounce_rate"], "grain": "day"},
    ),
    "GET /stats/breakdown": Operation(
        summary="Metrics by page, source, country or other dimensions",
        tag=OVERVIEW,
        scope=may.READ_SCOPE,
        parameters=_ASKED,
        answer={JSON: _FOUND, **_TABLE},
        says=OF_QUESTIONS,
        examples={"site_id": SITE_EXAMPLE, "by": ["source", "country"], "limit": 5, "filters": {"device!": "Mobile"}},
    ),
    "GET /stats/realtime": Operation(
        summary="Visitors and pages of the last 5 and 30 minutes",
        tag=OVERVIEW,
        scope=may.READ_SCOPE,
        query=RealtimeQuery,
        answer={JSON: REALTIME},
        says=OF_QUESTIONS,
        examples={"site_id": SITE_EXAMPLE},
    ),
    "GET /stats/ledger": Operation(
        summary="Counts of received, stored, dropped and dead events, and the time of the last event",
        tag=OVERVIEW,
        scope=may.READ_SCOPE,
        note="The ledger counts events by the UTC day on which they were received. Days without events are left out. "
        f"The limit is {MOST_DAYS} days. The default is the last 30 days, including today.",
        query=LedgerQuery,
        answer={JSON: LEDGER},
        says=OF_QUESTIONS,
        examples={"site_id": SITE_EXAMPLE},
    ),
    "POST /api/v2/query": Operation(
        summary="Any query, in the format of Plausible's Stats API v2",
        tag=PROGRAMS,
        scope=may.READ_SCOPE,
        note="docs/reports.md explains each metric.",
        body={JSON: QUERY},
        parameters=_FORMAT,
        answer={JSON: ANSWER, **_TABLE},
        error=PLAUSIBLES,
        says=EXPLORATIONS,
        examples={"body": QUERY_EXAMPLE},
    ),
    "POST /api/v2/funnel": Operation(
        summary="How many visitors completed each step of a funnel",
        tag=PROGRAMS,
        scope=may.READ_SCOPE,
        note=f"A step has exactly one of {', '.join(STEP_KINDS)}.",
        body={JSON: FunnelSchema},
        answer={JSON: an_object({"results": list_of(_STEP), "query": UNDERSTOOD})},
        error=PLAUSIBLES,
        says=EXPLORATIONS,
        examples={"body": EXPLORED | {"steps": _STEPS, "window": "7d"}},
    ),
    "POST /api/v2/retention": Operation(
        summary="How many visitors came back, by cohort",
        tag=PROGRAMS,
        scope=may.READ_SCOPE,
        body={JSON: RetentionSchema},
        answer={JSON: an_object({"results": list_of(COHORT), "query": UNDERSTOOD})},
        error=PLAUSIBLES,
        says=EXPLORATIONS,
        examples={"body": EXPLORED | {"grain": "week"}},
    ),
    "POST /api/v2/journeys": Operation(
        summary="Pages that visitors viewed before and after a page",
        tag=PROGRAMS,
        scope=may.READ_SCOPE,
        body={JSON: JourneysSchema},
        answer={JSON: an_object({"results": an_object({"following": PAGES, "preceding": PAGES}), "query": UNDERSTOOD})},
        error=PLAUSIBLES,
        says=EXPLORATIONS,
        examples={"body": EXPLORED | {"page": "/pricing", "limit": 5}},
    ),
    "GET /stats/visitor": Operation(
        summary="Visits and events of one visitor, newest visit first",
        tag=_RAW,
        scope=may.PERSONS_SCOPE,
        parameters=[
            WHICH,
            query("user_id", text(1, LONGEST_USER_ID), required=True),
            *_PERIOD,
            query(
                "limit", whole(1, MOST_ROWS), f"Number of visits. The default is 100 and the maximum is {MOST_VISITS}."
            ),
        ],
        answer={JSON: VISITOR},
        says=OF_QUESTIONS | {403: NO_VISITORS_SHOWN},
        examples={"site_id": SITE_EXAMPLE, "user_id": "user-xyz-789"},
    ),
    "GET /export/events": Operation(
        summary="Export of raw events",
        tag=_RAW,
        scope=may.PERSONS_SCOPE,
        note="If a store becomes unreachable during the export, the connection closes before the end, so that the "
        "client sees an error. Filters such as `country=DE` work as in GET /stats/breakdown.",
        parameters=[
            WHICH,
            query("period", PERIOD_NAME | {"default": "all"}),
            *FROM_TO,
            query("format", one_of(*FORMATS) | {"default": "ndjson"}),
            _BOM,
            query("filters", TEXT, "The `filters` of POST /api/v2/query, as JSON."),
        ],
        answer={
            mimetype: {"type": "string", "format": "binary"} if form == "parquet" else TEXT
            for form, mimetype in FORMATS.items()
        },
        headers=AS_FILE,
        says=OF_QUESTIONS,
        examples={"site_id": SITE_EXAMPLE, "from": "2026-11-01", "to": "2026-11-30"},
    ),
    "GET /admin/sites": Operation(
        summary="List the sites that have settings",
        tag=SITES_TAG,
        scope=may.SITES_SCOPE,
        query=sites.SitesPage,
        answer={JSON: an_object({"sites": list_of(_SITE), "after": or_null(TEXT)})},
    ),
    "GET /admin/sites/<path:site_id>": Operation(
        summary="Settings of a site, or the defaults if it has none",
        tag=SITES_TAG,
        scope=may.SITES_SCOPE,
        variables={"site_id": SITE_ID},
        answer={JSON: an_object(_SITE["properties"] | {"last_event_received": _LAST_RECEIVED})},
        examples={"site_id": SITE_EXAMPLE},
    ),
    "PUT /admin/sites/<path:site_id>": Operation(
        summary="Replace all settings of a site",
        tag=SITES_TAG,
        scope=may.SITES_SCOPE,
        note="A setting that the body leaves out gets its default. The body may repeat `site_id`.",
        variables={"site_id": SITE_ID},
        body={JSON: SiteSchema(partial=("site_id",))},
        answer={JSON: _SITE},
        says={
            400: "`not_json` or `invalid_site`. `fields` says what is wrong. Two sites cannot share a domain or a "
            "write key.",
        },
        examples={"site_id": SITE_EXAMPLE, "body": SITE_SET},
    ),
    "PATCH /admin/sites/<path:site_id>": Operation(
        summary="Change some settings of a site",
        tag=SITES_TAG,
        scope=may.SITES_SCOPE,
        note="Only the settings in the body change. null resets a setting to its default, except "
        "`write_key`, which stays. If the site has no settings, all settings that are not in the body get their "
        "defaults.",
        variables={"site_id": SITE_ID},
        body={JSON: SiteSchema(partial=("site_id",))},
        answer={JSON: _SITE},
        says={
            400: "`not_json` or `invalid_site`. `fields` says what is wrong. Two sites cannot share a domain or a "
            "write key.",
        },
        examples={"site_id": SITE_EXAMPLE, "body": {"retention_days": 400, "timezone": None}},
    ),
    "POST /admin/write-keys/<path:site_id>": Operation(
        summary="Make a new write key. Events with the old write key are no longer counted for this site.",
        tag=SITES_TAG,
        scope=may.SITES_SCOPE,
        variables={"site_id": SITE_ID},
        answer={JSON: _SITE},
        says={404: "This site has no settings."},
    ),
    "DELETE /admin/sites/<path:site_id>": Operation(
        summary="Delete the settings of a site. Its events stay.",
        tag=SITES_TAG,
        scope=may.SITES_SCOPE,
        variables={"site_id": SITE_ID},
        answer={JSON: an_object({"success": just(True), "removed": whole(0, 1)})},
    ),
    "GET /admin/keys": Operation(
        summary="List all API keys, including expired and revoked ones, newest first, without their secrets",
        tag=KEYS,
        scope=may.ADMIN_SCOPE,
        answer={JSON: an_object({"keys": list_of(API_KEY)})},
    ),
    "POST /admin/keys": Operation(
        summary="Make an API key. Only this response shows its secret.",
        tag=KEYS,
        scope=may.ADMIN_SCOPE,
        note=f"A key with the scope `{may.ADMIN_SCOPE}` is for all sites. Send at most one of `expires_at` and "
        "`expires_in`.",
        body={JSON: NewKey},
        answer={JSON: KEY_SHOWN},
        headers=NOT_KEPT,
        says={400: "`not_json` or `invalid_query`. `fields` says what is wrong."},
        examples={
            "body": {"name": "Dashboard", "scopes": [may.READ_SCOPE], "sites": [SITE_EXAMPLE], "expires_in": "90d"}
        },
    ),
    "POST /admin/keys/<uuid:key_id>/rotate": Operation(
        summary="Make a new secret. Only this response shows it. The old secret works until `grace` is over.",
        tag=KEYS,
        scope=may.ADMIN_SCOPE,
        body={JSON: Rotation},
        body_required=False,
        answer={JSON: KEY_SHOWN},
        headers=NOT_KEPT,
        says={409: "`key_not_active`: the key is revoked or has expired."},
    ),
    "POST /admin/keys/<uuid:key_id>/revoke": Operation(
        summary="Revoke an API key",
        tag=KEYS,
        scope=may.ADMIN_SCOPE,
        answer={JSON: API_KEY},
    ),
    "POST /admin/visitors/search": Operation(
        summary="Count the stored data of one visitor",
        tag=VISITORS,
        scope=may.ADMIN_SCOPE,
        note=WHOSE,
        body={JSON: Whose},
        answer={JSON: an_object(dict.fromkeys(Found.__dataclass_fields__, WHOLE_COUNT) | {"found": FLAG})},
        examples={"body": VISITOR_EXAMPLE},
    ),
    "POST /admin/visitors/export": Operation(
        summary="Export the data of one visitor, one record on each line",
        tag=VISITORS,
        scope=may.ADMIN_SCOPE,
        note=WHOSE,
        body={JSON: Whose},
        answer={NDJSON: {}},
        headers=AS_FILE,
        examples={"body": VISITOR_EXAMPLE},
    ),
    "POST /admin/visitors/erase": Operation(
        summary="Erase the data of one visitor permanently",
        tag=VISITORS,
        scope=may.ADMIN_SCOPE,
        note=WHOSE,
        body={JSON: Whose},
        answer={
            JSON: an_object(
                {
                    "success": just(True),
                    "erased": an_object({"events": WHOLE_COUNT, "dead_letters": WHOLE_COUNT, "waiting": WHOLE_COUNT}),
                    "message": TEXT,
                }
            )
        },
        examples={"body": VISITOR_EXAMPLE | {"user_id": "user-who-left"}},
    ),
    "GET /admin/dead-letters": Operation(
        summary="List dead letters (events that failed permanently), newest first",
        tag=LETTERS,
        scope=may.DEAD_LETTERS_SCOPE,
        query=dead_letters.LetterPage,
        answer={JSON: an_object({"dead_letters": list_of(LETTER), "after": or_null(UUID)})},
    ),
    "GET /admin/dead-letters/count": Operation(
        summary="Count dead letters by site and reason",
        tag=LETTERS,
        scope=may.DEAD_LETTERS_SCOPE,
        query=dead_letters.LetterQuery,
        answer={JSON: an_object({"count": WHOLE_COUNT, "by": LETTERS_BY})},
    ),
    "GET /admin/dead-letters/export": Operation(
        summary="Export dead letters, one on each line",
        tag=LETTERS,
        scope=may.DEAD_LETTERS_SCOPE,
        query=dead_letters.LetterQuery,
        answer={NDJSON: TEXT},
    ),
    "GET /admin/dead-letters/<uuid:letter_id>": Operation(
        summary="One dead letter with its payload",
        tag=LETTERS,
        scope=may.DEAD_LETTERS_SCOPE,
        answer={JSON: LETTER},
    ),
    "POST /admin/dead-letters/<uuid:letter_id>/replay": Operation(
        summary="Replay one dead letter, unchanged or with the event in the body",
        tag=LETTERS,
        scope=may.DEAD_LETTERS_SCOPE,
        body={JSON: EventSchema},
        body_required=False,
        answer={JSON: an_object({"success": just(True), "replayed": just(1)})},
        says={404: "", 409: "`cut`: the payload was too long and only its beginning is stored."},
    ),
    "POST /admin/dead-letters/replay": Operation(
        summary="Replay all dead letters that match the filter",
        tag=LETTERS,
        scope=may.DEAD_LETTERS_SCOPE,
        body={JSON: dead_letters.LetterQuery},
        body_required=False,
        answer={JSON: an_object({"success": just(True), "replayed": WHOLE_COUNT, "cut": WHOLE_COUNT})},
    ),
    "POST /admin/dead-letters/purge": Operation(
        summary="Purge dead letters that match the filter",
        tag=LETTERS,
        scope=may.DEAD_LETTERS_SCOPE,
        body={JSON: dead_letters.Purge},
        answer={JSON: an_object({"success": just(True), "purged": WHOLE_COUNT})},
        says={
            409: "`not_confirmed`: `confirm` is not the number of matching dead letters. The message states the number."
        },
    ),
    **common(["mongodb"]),
}

_WINDOW = f"^({OF_VISIT}|[1-9][0-9]{{0,3}}m|[1-9][0-9]{{0,2}}h|([1-9][0-9]?|[12][0-9]{{2}}|3[0-5][0-9]|36[0-6])d)$"
LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = rf"{LABEL}([.]{LABEL})*"
GIVEN = text(shortest=1)
_RULES: dict[object, Rule] = {
    DateRange: ref("DateRange"),
    QueryFilter: ref("QueryFilter"),
    Day: DATE_TEXT,
    Lasting: lambda field: text(pattern=_lasting(field), examples=["24h", "30m", "7d"]),
    Domain: {"pattern": f"^{_HOST}$", "maxLength": LONGEST_HOST, "examples": ["shop.example"]},
    OriginField: {
        "pattern": f"^https?://{_HOST}(:([1-9][0-9]{{0,3}}|[1-5][0-9]{{4}}))?/?$",
        "examples": ["https://shop.example"],
    },
    Network: {"type": "string", "format": "ip-network", "examples": ["192.0.2.7", "2001:db8::/32"]},
    Whose: {"oneOf": [{"required": [name]} for name in ("user_id", "visitor_id")]},
    StepSchema: {"oneOf": [{"required": [kind]} for kind in STEP_KINDS]},
    GoalSchema: {"oneOf": [{"required": [kind], "properties": {kind: GIVEN}} for kind in ("event_type", "page")]},
    is_window: {"pattern": _WINDOW},
    is_zone: {"format": "time-zone", "description": "An IANA time zone name.", "examples": ["Europe/Berlin"]},
}


def _lasting(field: fields.Field[Any]) -> str:
    """The pattern of a duration. It also accepts larger numbers of hours and minutes, up to the maximum in days."""
    days = field.longest.days  # type: ignore[attr-defined]
    none = "0[mhd]|" if field.name == "grace" else ""
    return f"^({none}[1-9][0-9]{{0,3}}m|[1-9][0-9]?h|({up_to(days)})d)$"


@cache
def description() -> Json:
    return describe("Footfall: reports", _ABOUT, _OPERATIONS, COMPONENTS, _RULES)
