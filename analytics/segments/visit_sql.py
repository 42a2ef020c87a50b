"""How visits are derived from events, in DuckDB's SQL: the one place that knows, for segments and for reports.

In: a relation of raw columns (analytics/events/columns.py). Out: a relation of rows, one for each event, that says of
its visit what any question may ask, so that no question has to put visits together again. The statements here are
constant; values go in as parameters.

A *span* is what a visitor does without a gap of more than 30 minutes. The visit is the span from its first event that
is not an engagement event on; what comes before that, and a span without such an event, is no visit. A span that keeps
more than 30 minutes from both ends of its segment is complete, whatever is stored elsewhere. One that does not is at
the `edge`, and is derived again together with its neighbours whenever it is read.
"""

from analytics.events.event import DESCRIBED
from analytics.interval import DAY, QUARTER, VISIT_GAP

# Of the event itself. `tie`: order of a visitor's events within a millisecond. `seen`: the quarter of an hour in which
# the same segment has the visitor's event before this one, NULL for his first; nobody's event has its own, being the
# first of nobody. `own`: the event's own description, where it is not that of the visit's entry, whose description the
# columns of DESCRIBED hold.
EVENT_COLUMNS = (
    "occurred", "tie", "quarter", "seen", "visitor", "name", "page", "hostname", "interactive", "engagement_time",
    "scroll_depth", "revenue", "currency", "props",
)  # fmt: skip
# Of its visit. `prior`: the quarter of the visit's event before this one, NULL for the entry and without a visit. An
# *opening* is the entry of a visit, which stands for all of it, or an event of no visit, which stands for itself.
# `last_quarter` is that of the last event that an opening stands for, and -1 where the row is none.
VISIT_COLUMNS = (
    "visit", "entry", "last_quarter", "visit_duration", "visit_pageviews", "visit_bounce",
    "entry_page", "entry_page_hostname", "exit_page", "exit_page_hostname", *DESCRIBED,
)  # fmt: skip
SPAN_COLUMNS = ("span_start", "span_end", "own")
VISIT_ROW_COLUMNS = (*EVENT_COLUMNS, *VISIT_COLUMNS, *SPAN_COLUMNS)  # and `edge`, in a file; `prior`, in a reading

RAW_COLUMNS = (*(name for name in EVENT_COLUMNS if name not in ("quarter", "seen")), *DESCRIBED)

_DESCRIPTION = ", ".join(f"{name} := {name}" for name in DESCRIBED)


def _described_in(struct: str) -> str:
    return ", ".join(f"{struct}.{name} AS {name}" for name in DESCRIBED)


# The raw columns of a row in a segment.
RAW_OF_ROW = ", ".join(
    [
        *(name for name in RAW_COLUMNS if name not in DESCRIBED),
        *(f"CASE WHEN own IS NULL THEN {name} ELSE own.{name} END AS {name}" for name in DESCRIBED),
    ]
)

NO_PROPS = "NULL::MAP(VARCHAR, VARCHAR) AS props"
WITHOUT_PROPS = f"REPLACE ({NO_PROPS})"
RAW_WITHOUT_PROPS = RAW_OF_ROW.replace("props", NO_PROPS)

# What a file holds. Files of older formats are read as if they had been written now: a description that was unknown
# then is missing there.
FORMAT = 3
WIDE_FORMAT = 4  # the same of large events (wide_props.py): a builder reads those again, and not this file
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

# From the relation `raw`, which has RAW_COLUMNS and `seen`.
DERIVED = f"""
WITH gaps AS (
  SELECT *, struct_pack({_DESCRIPTION}) AS described, lag(occurred) OVER events AS before
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
    any_value(described) FILTER (nth = 1 AND name <> 'engagement') AS entered,
    arg_min(struct_pack(page, hostname), (occurred, tie)) FILTER (name = 'pageview') AS first_page,
    arg_max(struct_pack(page, hostname), (occurred, tie)) FILTER (name = 'pageview') AS last_page
  FROM ranked GROUP BY visitor, span
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
  CASE WHEN nth > 0 THEN first_page.page END AS entry_page,
  CASE WHEN nth > 0 THEN first_page.hostname END AS entry_page_hostname,
  CASE WHEN nth > 0 THEN last_page.page END AS exit_page,
  CASE WHEN nth > 0 THEN last_page.hostname END AS exit_page_hostname,
  {_described_in("(CASE WHEN nth > 0 THEN entered ELSE described END)")},
  span_start, span_end,
  CASE WHEN nth > 0 AND described IS DISTINCT FROM entered THEN described END AS own,
  CASE WHEN nth > 0 AND NOT (nth = 1 AND name <> 'engagement') THEN (before // {QUARTER})::INTEGER END AS prior
FROM ranked JOIN visits USING (visitor, span)
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

# A segment's rows as they are written, from the relation `found`: all of the segment, or one of its days. The question
# marks are the start and end of its interval. `earlier`: in which quarters visitors were seen on the days before.
# Openings first, so that a question about visits and visitors reads no other rows; by day, so that one about a day
# reads little; those at the edge together, as they are read apart; then by visitor, so that what stays the same within
# a visit takes next to no space.
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
# All of a segment, from the files of its days.
OF_DAYS = """
SELECT * FROM read_parquet($days) WHERE last_quarter >= 0 UNION ALL
SELECT * FROM read_parquet($days) WHERE last_quarter < 0
"""
