"""OpenAPI operations of the reporting app: one entry of _OPERATIONS per route (web/openapi.py describes an entry)."""

from functools import cache
from typing import Any

from marshmallow import fields

from analytics.access import store as may
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
Exact numbers of what happened on your sites.

Send the key as `Authorization: Bearer <key>`. Where the server has no REPORT_KEY, reports are open, but for those that
show single persons.

Every error is `{"success": false, "error": {"code", "message", "fields"}}`, under `/api/v2` it is `{"error": message}`.
A request that is no HTTP at all, or beyond the limits of its head, is answered with 400, 414, 431 or 501 in the same
shape, whatever the route.
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
    {"total_rows": WHOLE_COUNT, "as_of": MOMENT | {"description": "What was stored later may be missing."}},
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

UNDERSTOOD = {"type": "object", "description": "What was understood."}
COMPARISON = an_object(
    {
        "dimensions": list_of(TEXT),
        "metrics": list_of(METRIC),
        "change": list_of({"type": ["integer", "null"], "description": "In whole percent."}),
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
_CUT = {"type": "boolean", "const": True, "description": "There are more events than an answer may have."}
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

_LAST_RECEIVED = or_null(MOMENT) | {"description": "When ingestion last accepted an event of the site."}
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
    "sites": or_null(list_of(TEXT)) | {"description": "null: all."},
    "state": one_of("active", "expired", "revoked"),
    "created_at": MOMENT,
    "expires_at": or_null(MOMENT),
    "revoked_at": or_null(MOMENT),
    "last_used_at": or_null(MOMENT),
}
API_KEY = an_object(KEY_SAID)
KEY_SHOWN = an_object(KEY_SAID | {"key": TEXT | {"description": "The secret."}})
NOT_KEPT: Json = {"Cache-Control": {"required": True, "schema": just("no-store")}}

# Parameters of reports in a URL


def query(name: str, schema: Json, about: str = "", required: bool = False, **more: object) -> Json:
    return {"name": name, "schema": schema, "required": required, **({"description": about} if about else {}), **more}


_NAMES = any_of(one_of(*SHORT_DIMENSIONS), text(pattern=rf"^{PROP_BEGINS.replace('.', '[.]')}[^,\s\u0000]+$"))
COMMAS: Json = {"style": "form", "explode": False}
WHICH = query("site_id", SITE_ID, "The id of the site, or one of its domains.", required=True)
FROM_TO = [
    query("from", DATE_TEXT, "Instead of a period: its first day."),
    query("to", DATE_TEXT, "Its last day; today if it is not given."),
]
_PERIOD = [query("period", PERIOD_NAME, "By default the last 30 days, with today."), *FROM_TO]
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
    "Each dimension is a parameter of its own, `country=DE`; `!` at the end of its name is `not`. The same one twice "
    "is `or`, different ones are `and`. A goal is one that is set for the site, and there is no `goal!`.",
    style="form",
    explode=True,
)
_BOM = query("bom", one_of("0", "1"), "With 1, CSV begins with a byte order mark, which Excel needs.")
_FORMAT = [
    query("format", one_of("json", "csv"), "Overrides the header Accept."),
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
GRAIN = query("grain", one_of(*GRAINS), "Without one, what shows the period best.")

# Errors

_QUESTION = "The question is wrong: the message, and under `fields` each parameter, says where."
_REFUSED = (
    "`busy` or `unavailable`, with Retry-After: ask again. `time_limit`, `memory_limit`: ask about a shorter period."
)
_NO_SITE = "`unknown_site`: in production, the site is not set up. A close name is suggested."
OF_QUESTIONS = {400: _QUESTION, 404: _NO_SITE, 503: _REFUSED}
NO_VISITORS_SHOWN = "`visitors_not_shown`: not set for this site. Or `report_key_not_set`, or the key may not do it."
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

OVERVIEW, PROGRAMS, _RAW = "Reports", "Reports for programs", "Single persons, raw events"
SITES_TAG, KEYS, VISITORS, LETTERS = "Sites", "API keys", "One visitor's rights", "Dead letters"

WHOSE = "Exactly one of `user_id` and `visitor_id`."
VISITOR_EXAMPLE: Json = {"site_id": SITE_EXAMPLE, "user_id": "user-xyz-789"}
AS_FILE: Json = {"Content-Disposition": {"required": True, "schema": TEXT}}


_OPERATIONS: dict[str, Operation] = {
    "GET /stats": Operation(
        summary="A day, or all time, at a glance",
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
        summary="Metrics by page, source, country or anything else",
        tag=OVERVIEW,
        scope=may.READ_SCOPE,
        parameters=_ASKED,
        answer={JSON: _FOUND, **_TABLE},
        says=OF_QUESTIONS,
        examples={"site_id": SITE_EXAMPLE, "by": ["source", "country"], "limit": 5, "filters": {"device!": "Mobile"}},
    ),
    "GET /stats/realtime": Operation(
        summary="Who is there right now",
        tag=OVERVIEW,
        scope=may.READ_SCOPE,
        query=RealtimeQuery,
        answer={JSON: REALTIME},
        says=OF_QUESTIONS,
        examples={"site_id": SITE_EXAMPLE},
    ),
    "GET /stats/ledger": Operation(
        summary="What became of the site's events, and when the last one was received",
        tag=OVERVIEW,
        scope=may.READ_SCOPE,
        note=f"By the UTC day on which they were received; days without events are left out. At most {MOST_DAYS} days; "
        "by default the 30 that end today.",
        query=LedgerQuery,
        answer={JSON: LEDGER},
        says=OF_QUESTIONS,
        examples={"site_id": SITE_EXAMPLE},
    ),
    "POST /api/v2/query": Operation(
        summary="Any question, as Plausible's Stats API v2 is asked",
        tag=PROGRAMS,
        scope=may.READ_SCOPE,
        note="docs/reports.md says what each number means.",
        body={JSON: QUERY},
        parameters=_FORMAT,
        answer={JSON: ANSWER, **_TABLE},
        error=PLAUSIBLES,
        says=EXPLORATIONS,
        examples={"body": QUERY_EXAMPLE},
    ),
    "POST /api/v2/funnel": Operation(
        summary="How many visitors did one step after the other",
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
        summary="How many visitors came again",
        tag=PROGRAMS,
        scope=may.READ_SCOPE,
        body={JSON: RetentionSchema},
        answer={JSON: an_object({"results": list_of(COHORT), "query": UNDERSTOOD})},
        error=PLAUSIBLES,
        says=EXPLORATIONS,
        examples={"body": EXPLORED | {"grain": "week"}},
    ),
    "POST /api/v2/journeys": Operation(
        summary="Which pages came before and after a page",
        tag=PROGRAMS,
        scope=may.READ_SCOPE,
        body={JSON: JourneysSchema},
        answer={JSON: an_object({"results": an_object({"following": PAGES, "preceding": PAGES}), "query": UNDERSTOOD})},
        error=PLAUSIBLES,
        says=EXPLORATIONS,
        examples={"body": EXPLORED | {"page": "/pricing", "limit": 5}},
    ),
    "GET /stats/visitor": Operation(
        summary="What one visitor did, the newest visit first",
        tag=_RAW,
        scope=may.PERSONS_SCOPE,
        parameters=[
            WHICH,
            query("user_id", text(1, LONGEST_USER_ID), required=True),
            *_PERIOD,
            query("limit", whole(1, MOST_ROWS), f"Visits; 100 where it is not given, and at most {MOST_VISITS}."),
        ],
        answer={JSON: VISITOR},
        says=OF_QUESTIONS | {403: NO_VISITORS_SHOWN},
        examples={"site_id": SITE_EXAMPLE, "user_id": "user-xyz-789"},
    ),
    "GET /export/events": Operation(
        summary="The raw events, as long as it takes",
        tag=_RAW,
        scope=may.PERSONS_SCOPE,
        note="If a store goes away on the way, the answer breaks off, so that no part is taken for the whole. Filters "
        "such as `country=DE` are taken as by GET /stats/breakdown, too.",
        parameters=[
            WHICH,
            query("period", PERIOD_NAME | {"default": "all"}),
            *FROM_TO,
            query("format", one_of(*FORMATS) | {"default": "ndjson"}),
            _BOM,
            query("filters", TEXT, "As JSON, the `filters` of POST /api/v2/query."),
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
        summary="The sites that something is set for",
        tag=SITES_TAG,
        scope=may.SITES_SCOPE,
        query=sites.SitesPage,
        answer={JSON: an_object({"sites": list_of(_SITE), "after": or_null(TEXT)})},
    ),
    "GET /admin/sites/<path:site_id>": Operation(
        summary="What is set for a site, or holds where nothing is",
        tag=SITES_TAG,
        scope=may.SITES_SCOPE,
        variables={"site_id": SITE_ID},
        answer={JSON: an_object(_SITE["properties"] | {"last_event_received": _LAST_RECEIVED})},
        examples={"site_id": SITE_EXAMPLE},
    ),
    "PUT /admin/sites/<path:site_id>": Operation(
        summary="Set all of it: what the body leaves out gets its default",
        tag=SITES_TAG,
        scope=may.SITES_SCOPE,
        note="What the body leaves out is as where nothing is set. It may say again whose settings these are.",
        variables={"site_id": SITE_ID},
        body={JSON: SiteSchema(partial=("site_id",))},
        answer={JSON: _SITE},
        says={
            400: "`not_json`, or `invalid_site`; `fields` says what. No two sites share a domain or write key.",
        },
        examples={"site_id": SITE_EXAMPLE, "body": SITE_SET},
    ),
    "PATCH /admin/sites/<path:site_id>": Operation(
        summary="Set some of it",
        tag=SITES_TAG,
        scope=may.SITES_SCOPE,
        note="The settings that the body names change, all others stay. null sets a setting to its default; the "
        "write key stays. If nothing is set for the site, all others have their defaults.",
        variables={"site_id": SITE_ID},
        body={JSON: SiteSchema(partial=("site_id",))},
        answer={JSON: _SITE},
        says={
            400: "`not_json`, or `invalid_site`; `fields` says what. No two sites share a domain or write key.",
        },
        examples={"site_id": SITE_EXAMPLE, "body": {"retention_days": 400, "timezone": None}},
    ),
    "POST /admin/write-keys/<path:site_id>": Operation(
        summary="Another write key; pages with the old one are sites that nobody knows",
        tag=SITES_TAG,
        scope=may.SITES_SCOPE,
        variables={"site_id": SITE_ID},
        answer={JSON: _SITE},
        says={404: "Nothing is set for this site."},
    ),
    "DELETE /admin/sites/<path:site_id>": Operation(
        summary="As if nothing had been set; the site's events stay",
        tag=SITES_TAG,
        scope=may.SITES_SCOPE,
        variables={"site_id": SITE_ID},
        answer={JSON: an_object({"success": just(True), "removed": whole(0, 1)})},
    ),
    "GET /admin/keys": Operation(
        summary="All API keys that ever were, the newest first; without their secrets",
        tag=KEYS,
        scope=may.ADMIN_SCOPE,
        answer={JSON: an_object({"keys": list_of(API_KEY)})},
    ),
    "POST /admin/keys": Operation(
        summary="A new API key; its secret is shown this once",
        tag=KEYS,
        scope=may.ADMIN_SCOPE,
        note=f"A key with the scope `{may.ADMIN_SCOPE}` is for all sites. Not both of `expires_at` and `expires_in`.",
        body={JSON: NewKey},
        answer={JSON: KEY_SHOWN},
        headers=NOT_KEPT,
        says={400: "`not_json` or `invalid_query`; `fields` says what is wrong."},
        examples={
            "body": {"name": "Dashboard", "scopes": [may.READ_SCOPE], "sites": [SITE_EXAMPLE], "expires_in": "90d"}
        },
    ),
    "POST /admin/keys/<uuid:key_id>/rotate": Operation(
        summary="A new secret, shown this once; the old one stays good for the grace",
        tag=KEYS,
        scope=may.ADMIN_SCOPE,
        body={JSON: Rotation},
        body_required=False,
        answer={JSON: KEY_SHOWN},
        headers=NOT_KEPT,
        says={409: "`key_not_active`: it was revoked or has expired."},
    ),
    "POST /admin/keys/<uuid:key_id>/revoke": Operation(
        summary="From now on it opens nothing",
        tag=KEYS,
        scope=may.ADMIN_SCOPE,
        answer={JSON: API_KEY},
    ),
    "POST /admin/visitors/search": Operation(
        summary="How much is kept of one visitor, and where",
        tag=VISITORS,
        scope=may.ADMIN_SCOPE,
        note=WHOSE,
        body={JSON: Whose},
        answer={JSON: an_object(dict.fromkeys(Found.__dataclass_fields__, WHOLE_COUNT) | {"found": FLAG})},
        examples={"body": VISITOR_EXAMPLE},
    ),
    "POST /admin/visitors/export": Operation(
        summary="All of it, a line each",
        tag=VISITORS,
        scope=may.ADMIN_SCOPE,
        note=WHOSE,
        body={JSON: Whose},
        answer={NDJSON: {}},
        headers=AS_FILE,
        examples={"body": VISITOR_EXAMPLE},
    ),
    "POST /admin/visitors/erase": Operation(
        summary="Remove all of it for good",
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
        summary="Events that failed for good, the newest first",
        tag=LETTERS,
        scope=may.DEAD_LETTERS_SCOPE,
        query=dead_letters.LetterPage,
        answer={JSON: an_object({"dead_letters": list_of(LETTER), "after": or_null(UUID)})},
    ),
    "GET /admin/dead-letters/count": Operation(
        summary="How many, by site and reason",
        tag=LETTERS,
        scope=may.DEAD_LETTERS_SCOPE,
        query=dead_letters.LetterQuery,
        answer={JSON: an_object({"count": WHOLE_COUNT, "by": LETTERS_BY})},
    ),
    "GET /admin/dead-letters/export": Operation(
        summary="All of them, a line each",
        tag=LETTERS,
        scope=may.DEAD_LETTERS_SCOPE,
        query=dead_letters.LetterQuery,
        answer={NDJSON: TEXT},
    ),
    "GET /admin/dead-letters/<uuid:letter_id>": Operation(
        summary="One of them, with its payload",
        tag=LETTERS,
        scope=may.DEAD_LETTERS_SCOPE,
        answer={JSON: LETTER},
    ),
    "POST /admin/dead-letters/<uuid:letter_id>/replay": Operation(
        summary="Send it again, as it was or as the body says",
        tag=LETTERS,
        scope=may.DEAD_LETTERS_SCOPE,
        body={JSON: EventSchema},
        body_required=False,
        answer={JSON: an_object({"success": just(True), "replayed": just(1)})},
        says={404: "", 409: "`cut`: only its beginning was kept."},
    ),
    "POST /admin/dead-letters/replay": Operation(
        summary="Send all of them again that fit",
        tag=LETTERS,
        scope=may.DEAD_LETTERS_SCOPE,
        body={JSON: dead_letters.LetterQuery},
        body_required=False,
        answer={JSON: an_object({"success": just(True), "replayed": WHOLE_COUNT, "cut": WHOLE_COUNT})},
    ),
    "POST /admin/dead-letters/purge": Operation(
        summary="Remove those that fit for good",
        tag=LETTERS,
        scope=may.DEAD_LETTERS_SCOPE,
        body={JSON: dead_letters.Purge},
        answer={JSON: an_object({"success": just(True), "purged": WHOLE_COUNT})},
        says={409: "`not_confirmed`: `confirm` is not how many fit; the message says how many do."},
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
    is_zone: {"format": "time-zone", "description": "An IANA name.", "examples": ["Europe/Berlin"]},
}


def _lasting(field: fields.Field[Any]) -> str:
    """The pattern of a duration. It also accepts larger numbers of hours and minutes, up to the maximum in days."""
    days = field.longest.days  # type: ignore[attr-defined]
    none = "0[mhd]|" if field.name == "grace" else ""
    return f"^({none}[1-9][0-9]{{0,3}}m|[1-9][0-9]?h|({up_to(days)})d)$"


@cache
def description() -> Json:
    return describe("Footfall: reports", _ABOUT, _OPERATIONS, COMPONENTS, _RULES)
