"""The JSON of POST /api/v2/query as JSON Schema, for the OpenAPI description.

analytics/queries/query_schema.py reads the JSON without this schema. Both use the same constants. Rules that JSON
Schema cannot express are in the descriptions.
"""

from analytics.json_schema import (
    FLAG,
    INTEGER64,
    MOMENT,
    Json,
    an_object,
    any_of,
    just,
    list_of,
    one_of,
    ref,
    row_of,
    text,
    up_to,
    whole,
)
from analytics.queries.periods import MOST_BACK
from analytics.queries.query import (
    EVENT_DIMENSIONS,
    METRICS,
    OF_GOALS,
    OF_NUMBERS,
    OF_PAGES,
    PROPS,
    SHARES,
    TIME_DIMENSIONS,
    VISIT_DIMENSIONS,
    VISIT_NUMBERS,
    missing,
)
from analytics.queries.query_schema import (
    COUNTRY,
    FARTHEST_ROW,
    LARGEST_NUMBER,
    LONGEST_SITE_ID,
    LONGEST_TEXT,
    MODES,
    MOST_CONDITIONS,
    MOST_DEPTH,
    MOST_DIMENSIONS,
    MOST_LABELS,
    MOST_ROWS,
    MOST_SITES,
    MOST_VALUES,
    OPERATORS,
    OPERATORS_OF_GOALS,
    OPERATORS_OF_NUMBERS,
)
from analytics.schema_fields import YEARS

SITE_ID = text(1, LONGEST_SITE_ID)
SITE_IDS = any_of(
    SITE_ID,
    list_of(SITE_ID, minItems=1, maxItems=MOST_SITES, uniqueItems=True)
    | {"description": "Several sites as one. They must have the same time zone."},
)
DATE_TEXT = text(format="date", pattern=f"^{YEARS}-")
_SECOND = MOMENT | {"pattern": f"^{YEARS}-.*(Z|[+-][0-9]{{2}}:[0-9]{{2}})$"}

OF_PATTERNS = tuple(name for name in OPERATORS if name.startswith("matches"))
OF_TEXTS = tuple(name for name in OPERATORS if name not in OF_PATTERNS)
EXACT = tuple(name for name in OPERATORS if name.startswith("is"))
LOOSE = tuple(name for name in OF_TEXTS if name not in EXACT)

VALUE = text(longest=LONGEST_TEXT)
PATTERN = VALUE | {"format": "re2", "description": "A regular expression (RE2). It may match any part of the value."}
_PROP = text(pattern=f"^{PROPS}[^\\u0000]+$", longest=LONGEST_TEXT, description="A custom property.")
OTHER_THAN_TEXT = ({"type": "number", "minimum": INTEGER64["minimum"], "maximum": INTEGER64["maximum"]}, FLAG)
CODE = text(pattern=f"^({COUNTRY.pattern}|{missing('visit:country').replace('(', '[(]').replace(')', '[)]')})$")

TEXTS = tuple(
    name for name in (*EVENT_DIMENSIONS, *VISIT_DIMENSIONS) if name not in ("event:goal", "visit:country", "visit:city")
)


def period_names(*more: str) -> Json:
    units = "|".join(f"({up_to(most)}){unit}" for unit, most in MOST_BACK.items())
    return text(
        pattern=f"^({'|'.join(more)}|{units})$",
        description="A number of days or months ends before the current day or month.",
        examples=["day", "24h", "7d", "30d", "month", "6mo", "year", "all"],
    )


PERIOD_NAME = period_names("24h", "day", "month", "year", "all")
TWO_DAYS = row_of(DATE_TEXT, DATE_TEXT, description="The first and the last day, both included.")
TWO_MOMENTS = row_of(_SECOND, _SECOND, description="The first and the last second, both included.")
DATE_RANGE = any_of(PERIOD_NAME, TWO_DAYS, TWO_MOMENTS)


def _condition(operators: tuple[str, ...], dimension: Json, value: Json) -> Json:
    case = an_object({}, {"case_sensitive": FLAG}, additionalProperties=False)
    items = [one_of(*operators), dimension, list_of(value, minItems=1), case]
    return {"type": "array", "prefixItems": items, "minItems": len(items) - 1, "maxItems": len(items)}


CONDITIONS = [
    _condition(OF_TEXTS, one_of(*TEXTS), VALUE),
    _condition(OF_TEXTS, just("visit:city"), any_of(VALUE, INTEGER64)),
    _condition(EXACT, just("visit:country"), CODE),
    _condition(LOOSE, just("visit:country"), VALUE),
    _condition(OF_PATTERNS, one_of(*TEXTS, "visit:country"), PATTERN),
    _condition(OF_PATTERNS, just("visit:city"), any_of(PATTERN, INTEGER64)),
    _condition(OF_TEXTS, _PROP, any_of(VALUE, *OTHER_THAN_TEXT)),
    _condition(OF_PATTERNS, _PROP, any_of(PATTERN, *OTHER_THAN_TEXT)),
    _condition(OPERATORS_OF_GOALS, just("event:goal"), VALUE),
    row_of(
        one_of(*OPERATORS_OF_NUMBERS),
        one_of(*VISIT_NUMBERS),
        list_of(whole(0, LARGEST_NUMBER), minItems=1),
        description="Seconds from the first event of the visit to its last, or pageviews in the visit.",
    ),
]


def _filter(name: str, *more: Json) -> Json:
    """A filter. `name`: the component for the filters within it."""
    several = row_of(one_of("and", "or"), list_of(ref(name), minItems=1))
    return any_of(ref("Condition"), several, row_of(just("not"), ref(name)), *more)


COMPONENTS: dict[str, Json] = {
    "Condition": any_of(*CONDITIONS)
    | {
        "description": "For `event:goal`, the values are goals of the site.",
        "examples": [["is", "visit:country", ["DE", "FR"]]],
    },
    "VisitFilter": _filter("VisitFilter"),
    "QueryFilter": _filter("QueryFilter", row_of(one_of("has_done", "has_not_done"), ref("VisitFilter"))),
    "DateRange": DATE_RANGE,
    "SiteIds": SITE_IDS,
}

_FILTERS = list_of(
    ref("QueryFilter"),
    maxItems=MOST_CONDITIONS,
    description='An event must match all filters. `["is", "segment", [id]]` is a saved filter of the site. '
    f"The limits are {MOST_CONDITIONS} conditions and {MOST_VALUES} "
    f"values in total, and {MOST_DEPTH} levels of nesting.",
)

COMPARISONS = any_of(
    an_object(
        {"mode": one_of(*(mode for mode in MODES if mode != "custom"))},
        {"match_day_of_week": FLAG},
        additionalProperties=False,
    ),
    an_object(
        {"mode": just("custom"), "date_range": any_of(TWO_DAYS, TWO_MOMENTS)},
        {"match_day_of_week": FLAG},
        additionalProperties=False,
    ),
)

DIMENSION = any_of(one_of(*EVENT_DIMENSIONS, *VISIT_DIMENSIONS), _PROP)
_DIMENSIONS = list_of(
    any_of(one_of("time", *TIME_DIMENSIONS), DIMENSION),
    maxItems=MOST_DIMENSIONS,
    uniqueItems=True,
    description="At most one time dimension.",
)


def metric(characters: str = "[^\\u0000]") -> Json:
    """A metric. `characters`: of the name of a property."""
    of_numbers = text(
        pattern=f"^({'|'.join(OF_NUMBERS)}):props:{characters}+$",
        longest=LONGEST_TEXT,
        description="Of the numbers that events have as a custom property.",
        examples=["average:props:price"],
    )
    return any_of(one_of(*METRICS), of_numbers)


def metric_names(one: Json) -> Json:
    return list_of(
        one,
        minItems=1,
        maxItems=len(METRICS),
        uniqueItems=True,
        description=f"{', '.join(OF_PAGES)} need `event:page` as a dimension or in a filter. {', '.join(OF_GOALS)} "
        f"need `event:goal` as a dimension or in a filter. {', '.join(SHARES)} need at least one dimension.",
    )


_METRIC = metric()

QUERY = an_object(
    {"site_id": ref("SiteIds"), "metrics": metric_names(_METRIC), "date_range": ref("DateRange")},
    {
        "dimensions": _DIMENSIONS,
        "filters": _FILTERS,
        "order_by": list_of(
            row_of(
                any_of(_METRIC, one_of("time", *TIME_DIMENSIONS, *EVENT_DIMENSIONS, *VISIT_DIMENSIONS), _PROP),
                one_of("asc", "desc"),
            ),
            maxItems=len(METRICS) + MOST_DIMENSIONS,
            description="Each entry names a metric or a dimension of this query.",
        ),
        "include": an_object(
            {},
            {
                "imports": FLAG
                | {"description": "Imported daily totals count too, if they can answer the query. `meta` tells."},
                "time_labels": FLAG | {"description": f"Needs a time dimension and at most {MOST_LABELS} rows."},
                "total_rows": FLAG,
                "trim_relative_date_range": FLAG,
                "comparisons": COMPARISONS,
            },
            additionalProperties=False,
        ),
        "pagination": an_object(
            {}, {"limit": whole(1, MOST_ROWS), "offset": whole(0, FARTHEST_ROW)}, additionalProperties=False
        ),
    },
    additionalProperties=False,
)
