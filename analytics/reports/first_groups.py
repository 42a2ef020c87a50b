"""The relations of a statement whose answer has the first groups by visitors, out of many groups. Pure.

To tell the visitors of 20,000 pages apart takes most of a report's time and memory, and a panel shows six pages. A
group has at most as many visitors as events, and to count events is cheap. So the groups with the most events are
counted first. Another group is counted only if it has at least as many events as the last group of the answer has
visitors. Usually there is no such group.

Events are grouped by values as they are stored: DuckDB reads texts as numbers of a dictionary, and groups by these
numbers. To put a word for a missing value in each row would take more than twice as long.
"""

from collections.abc import Mapping, Sequence

from analytics.sql import Sql, joined_by, put

MOST_FIRST_GROUPS = 500  # of an answer, with its offset
_COUNTED = 2  # groups that are counted first, for each group of the answer
_MOST_BITS = 30  # groups whose visitors are counted with one number for each visitor
_VISITORS_ONLY = {"visitors": "count(DISTINCT visitor)"}


def stored(name: str) -> str:
    """The column of `everything` with a dimension's value as it is stored, which is NULL if it is missing."""
    return f"stored_{name}"


def first_groups(
    names: Sequence[str], words: Sequence[Sql], first: int, everything: Sql, counted: Mapping[str, str]
) -> dict[str, Sql]:
    """Return the relations by name: `groups` has all groups, `main` the counts of groups, and `events` the events of
    groups. Both contain the first groups and some others. `names`: of the dimensions. `words`: for missing values.
    `everything`: all events, with stored values. `counted`: the aggregates by name, with "visitors".
    """
    group, values = ", ".join(names), ", ".join(map(stored, names))
    counts = ", ".join(f"{what} AS {name}" for name, what in counted.items())
    last = f"coalesce((SELECT visitors FROM largest_counted ORDER BY visitors DESC LIMIT 1 OFFSET {first - 1}), 0)"
    dimensions = joined_by(
        ", ", [put(f"coalesce({stored(name)}, {{}}) AS {name}", word) for name, word in zip(names, words, strict=True)]
    )

    def numbered(groups: str) -> Sql:
        return Sql(f"SELECT {group}, row_number() OVER (ORDER BY {group}) AS number FROM ({groups})")

    def events_of(groups: str, what: str) -> str:
        """The events of groups, with `what` of the group. If the word for a missing value is also stored, the group has
        two keys.
        """
        keys = f"SELECT {values}, {what} FROM sizes JOIN {groups} USING ({group})"
        same = " AND ".join(f"everything.{each} IS NOT DISTINCT FROM keys.{each}" for each in map(stored, names))
        return f"SELECT everything.*, {what} FROM everything JOIN ({keys}) AS keys ON {same}"

    def counts_of(groups: str) -> str:
        # DuckDB copies the key of a group for each of its visitors. A number is shorter than text.
        by_number = f"SELECT number, {counts} FROM ({events_of(groups, 'number')}) GROUP BY number"
        return f"SELECT {group}, counts.* EXCLUDE (number) FROM ({by_number}) AS counts JOIN {groups} USING (number)"

    def visitors_of(groups: str) -> str:
        """The same as counts_of, if only visitors are counted. Each visitor has a number with a bit for each group."""
        events = events_of(groups, "number")
        by_visitor = (
            f"SELECT bit_or(1::BIGINT << number) AS bits FROM ({events}) WHERE visitor IS NOT NULL GROUP BY visitor"
        )
        people = f"SELECT bits, count(*) AS people FROM ({by_visitor}) GROUP BY bits"
        return (
            f"SELECT {group}, coalesce(sum(people), 0)::BIGINT AS visitors"
            f" FROM {groups} LEFT JOIN ({people}) ON (bits >> number) & 1 = 1 GROUP BY {group}"
        )

    by_bits = counted == _VISITORS_ONLY and _COUNTED * first <= _MOST_BITS
    return {
        "everything": everything,
        "sizes": put(
            f"SELECT *, {{}} FROM (SELECT {values}, count(*) AS size FROM everything GROUP BY {values})", dimensions
        ),
        "groups": Sql(f"SELECT {group}, sum(size) AS size FROM sizes GROUP BY {group}"),
        "largest": numbered(f"SELECT {group} FROM groups ORDER BY size DESC, {group} LIMIT {_COUNTED * first}"),
        "largest_counted": Sql((visitors_of if by_bits else counts_of)("largest")),
        "others": numbered(f"SELECT {group} FROM groups ANTI JOIN largest USING ({group}) WHERE size >= {last}"),
        "main": Sql(f"SELECT * FROM largest_counted UNION ALL {counts_of('others')}"),
        "shown": Sql(f"SELECT {group} FROM main WHERE visitors >= {last}"),
        "events": Sql(events_of("shown", group)),
    }
