"""Derives visits from events in DuckDB's SQL. Segments and reports use only these statements.

The input is a relation of raw columns (analytics/events/columns.py). The output is a relation with one row for each
event. A row holds everything about the event's visit that a query may need, so that no query has to derive visits. The
statements are constant; values are parameters.

A *span* is a visitor's events without a gap of more than 30 minutes. The visit begins with the first event of the span
that is not an engagement event. Earlier events, and a span without such an event, are not part of a visit. A span that
is more than 30 minutes away from both ends of its segment is complete, no matter what is stored elsewhere. Any other
span is at the `edge`, and is derived again together with its neighbours whenever it is read.
"""

from collections.abc import Collection
from enum import IntEnum

from analytics.events.event import DESCRIBED
from analytics.interval import DAY, QUARTER, VISIT_GAP

# Columns of the event itself. `tie` orders a visitor's events within a millisecond. `seen` is the quarter of an hour
# with the visitor's previous event in the same segment, and NULL for the visitor's first event. An event without a
# visitor holds its own quarter, because it is not the first event of a visitor. `own` is the event's own description if
# it differs from the description of the visit's entry. The columns of DESCRIBED hold the description of the entry.
EVENT_COLUMNS = (
    "occurred", "tie", "quarter", "seen", "visitor", "name", "page", "hostname", "interactive", "engagement_time",
    "scroll_depth", "revenue", "currency", "props",
)  # fmt: skip
# Columns of the event's visit. `prior` is the quarter of the previous event of the visit, and NULL for the entry and
# without a visit. An *opening* is the entry of a visit, which stands for the whole visit, or an event without a visit,
# which stands for itself. `last_quarter` is the quarter of the last event that an opening stands for, and -1 if the row
# is not an opening.
VISIT_COLUMNS = (
    "visit", "entry", "last_quarter", "visit_duration", "visit_pageviews", "visit_bounce",
    "entry_page", "entry_page_hostname", "exit_page", "exit_page_hostname", *DESCRIBED,
)  # fmt: skip
SPAN_COLUMNS = ("span_start", "span_end", "own")
VISIT_ROW_COLUMNS = (*EVENT_COLUMNS, *VISIT_COLUMNS, *SPAN_COLUMNS)  # and `edge` in a file, `prior` in a snapshot

RAW_COLUMNS = (*(name for name in EVENT_COLUMNS if name not in ("quarter", "seen")), *DESCRIBED)


def _description(table: str) -> str:
    return f"struct_pack({', '.join(f'{name} := {table}.{name}' for name in DESCRIBED)})"


class Detail(IntEnum):
    """How much of the events a report reads. Each level includes the levels below. At seams, reading 45 columns takes
    four times as long as reading those of COUNTED.
    """

    COUNTED = 0  # what counts events, visits and visitors
    DESCRIBED = 1  # all but the properties, which may be most of the data
    ALL = 2


_NOT_COUNTED = {"page", "hostname", "revenue", "currency", *DESCRIBED, "props"}
_OMITTED = {Detail.COUNTED: _NOT_COUNTED, Detail.DESCRIBED: {"props"}, Detail.ALL: set[str]()}
_OF_PAGES = {"entry_page", "entry_page_hostname", "exit_page", "exit_page_hostname"}
COUNTED_COLUMNS = {*EVENT_COLUMNS, *VISIT_COLUMNS, "span_start", "span_end", "prior"} - _NOT_COUNTED - _OF_PAGES


def detail_of(columns: Collection[str]) -> Detail:
    """Return the least detail that has these columns."""
    if "props" in columns:
        return Detail.ALL
    return Detail.COUNTED if COUNTED_COLUMNS.issuperset(columns) else Detail.DESCRIBED


def raw_columns(detail: Detail, *, of_row: bool) -> str:
    """The raw columns of this detail, of a row in a segment or of a raw event."""
    own = {name: f"CASE WHEN own IS NULL THEN {name} ELSE own.{name} END AS {name}" for name in DESCRIBED if of_row}
    return ", ".join(own.get(name, name) for name in RAW_COLUMNS if name not in _OMITTED[detail])


# The format of a file. Files of older formats are read as if they were written now. A description that did not exist
# then is missing.
FORMAT = 3
WIDE_FORMAT = 4  # FORMAT with large events (wide_props.py); a builder reads the raw events instead of such a file
_LAST_QUARTER = (
    f"CASE WHEN entry THEN (span_end // {QUARTER})::INTEGER WHEN visit_bounce IS NULL THEN quarter ELSE -1 END"
    " AS last_quarter"
)
FILES = {
    1: "(SELECT * REPLACE (CASE WHEN own IS NOT NULL THEN struct_insert(own, screen := NULL::VARCHAR) END AS own),"
    f" NULL::VARCHAR AS screen, {_LAST_QUARTER} FROM read_parquet(?))",
    2: f"(SELECT *, {_LAST_QUARTER} FROM read_parquet(?))",
    3: "read_parquet(?)",
    4: "read_parquet(?)",
}

# Input: the table `raw`, which has RAW_COLUMNS and `seen`. Visits are derived from few columns, and the other columns
# are joined by their row. With all columns in the windows, which DuckDB sorts, it took 9.8 instead of 5.7 µs of CPU for
# each event.
DERIVED = f"""
WITH gaps AS (
  SELECT rowid AS row, visitor, occurred, tie, name, interactive, lag(occurred) OVER events AS before
  FROM raw WHERE visitor IS NOT NULL
  WINDOW events AS (PARTITION BY visitor ORDER BY occurred, tie)
), spans AS (
  SELECT *, count(*) FILTER (before IS NULL OR occurred - before > {VISIT_GAP}) OVER (
    PARTITION BY visitor ORDER BY occurred, tie ROWS UNBOUNDED PRECEDING) AS span
  FROM gaps
), ranked AS (
  SELECT *, count(*) FILTER (name <> 'engagement') OVER (
    PARTITION BY visitor, span ORDER BY occurred, tie ROWS UNBOUNDED PRECEDING) AS nth
  FROM spans
), visits AS (
  SELECT visitor, span, min(occurred) AS span_start, max(occurred) AS span_end,
    min(occurred) FILTER (nth > 0) AS visit_start,
    count(*) FILTER (name = 'pageview') AS visit_pageviews,
    coalesce(bool_or(interactive AND name NOT IN ('pageview', 'engagement')), false) AS acted,
    any_value(row) FILTER (nth = 1 AND name <> 'engagement') AS entry_row,
    arg_min(row, (occurred, tie)) FILTER (name = 'pageview') AS first_row,
    arg_max(row, (occurred, tie)) FILTER (name = 'pageview') AS last_row
  FROM ranked GROUP BY visitor, span
), described AS (
  SELECT visits.*, {_description("entry_event")} AS entered,
    first_event.page AS first_page, first_event.hostname AS first_hostname,
    last_event.page AS last_page, last_event.hostname AS last_hostname
  FROM visits LEFT JOIN raw AS entry_event ON entry_event.rowid = entry_row
    LEFT JOIN raw AS first_event ON first_event.rowid = first_row
    LEFT JOIN raw AS last_event ON last_event.rowid = last_row
), placed AS (
  SELECT row, before, nth, described.* EXCLUDE (visitor) FROM ranked JOIN described USING (visitor, span)
)
SELECT occurred, tie, (occurred // {QUARTER})::INTEGER AS quarter, seen, visitor, name, page, hostname, interactive,
  engagement_time, scroll_depth, revenue, currency, props,
  CASE WHEN nth > 0 THEN xor(visitor, visit_start::UBIGINT) END AS visit,
  nth = 1 AND name <> 'engagement' AS entry,
  (CASE WHEN nth = 0 THEN occurred // {QUARTER} WHEN nth = 1 AND name <> 'engagement' THEN span_end // {QUARTER}
    ELSE -1 END)::INTEGER AS last_quarter,
  CASE WHEN nth > 0 THEN span_end - visit_start END AS visit_duration,
  CASE WHEN nth > 0 THEN visit_pageviews::INTEGER END AS visit_pageviews,
  CASE WHEN nth > 0 THEN visit_pageviews = 1 AND NOT acted END AS visit_bounce,
  CASE WHEN nth > 0 THEN first_page END AS entry_page,
  CASE WHEN nth > 0 THEN first_hostname END AS entry_page_hostname,
  CASE WHEN nth > 0 THEN last_page END AS exit_page,
  CASE WHEN nth > 0 THEN last_hostname END AS exit_page_hostname,
  {", ".join(f"CASE WHEN nth > 0 THEN entered.{name} ELSE raw.{name} END AS {name}" for name in DESCRIBED)},
  span_start, span_end,
  CASE WHEN nth > 0 AND {_description("raw")} IS DISTINCT FROM entered THEN {_description("raw")} END AS own,
  CASE WHEN nth > 0 AND NOT (nth = 1 AND name <> 'engagement') THEN (before // {QUARTER})::INTEGER END AS prior
FROM raw JOIN placed ON raw.rowid = row
UNION ALL BY NAME
SELECT occurred, tie, (occurred // {QUARTER})::INTEGER AS quarter, (occurred // {QUARTER})::INTEGER AS seen, visitor,
  name, page, hostname, interactive, engagement_time, scroll_depth, revenue, currency, props,
  NULL::UBIGINT AS visit, false AS entry, (occurred // {QUARTER})::INTEGER AS last_quarter,
  NULL::BIGINT AS visit_duration, NULL::INTEGER AS visit_pageviews, NULL::BOOLEAN AS visit_bounce,
  NULL::VARCHAR AS entry_page, NULL::VARCHAR AS entry_page_hostname,
  NULL::VARCHAR AS exit_page, NULL::VARCHAR AS exit_page_hostname,
  {", ".join(DESCRIBED)}, occurred AS span_start, occurred AS span_end,
  NULL::STRUCT({", ".join(f"{name} VARCHAR" for name in DESCRIBED)}) AS own, NULL::INTEGER AS prior
FROM raw WHERE visitor IS NULL
"""

# A segment's rows as they are written, from the relation `found`: the whole segment, or one of its days. The question
# marks are the start and end of its interval. `earlier` holds the quarters in which visitors were seen on the days
# before. Openings are first, so that a query about visits and visitors reads no other rows. Rows are sorted by day, so
# that a query of one day reads little. Rows at the edge are together, because they are read separately. Rows are then
# sorted by visitor, so that values that do not change within a visit take almost no space.
EARLIER = "CREATE OR REPLACE TEMP TABLE earlier (visitor UBIGINT, quarter INTEGER)"
WRITTEN = f"""
SELECT * EXCLUDE (earlier) REPLACE (
    coalesce(lag(quarter) OVER (PARTITION BY visitor ORDER BY occurred, tie), earlier) AS seen),
  span_start < ? + {VISIT_GAP} OR span_end >= ? - {VISIT_GAP} AS edge
FROM found LEFT JOIN (SELECT visitor, max(quarter) AS earlier FROM earlier GROUP BY visitor) USING (visitor)
WHERE visitor IS NOT NULL
UNION ALL BY NAME
SELECT * REPLACE (quarter AS seen), false AS edge FROM found WHERE visitor IS NULL
ORDER BY last_quarter < 0, occurred // {DAY}, edge, visitor, occurred, tie
"""
# The whole segment, from the files of its days.
OF_DAYS = """
SELECT * FROM read_parquet($days) WHERE last_quarter >= 0 UNION ALL
SELECT * FROM read_parquet($days) WHERE last_quarter < 0
"""
