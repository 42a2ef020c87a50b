"""The relations of a statement whose answer has the first groups by visitors, out of many groups. Pure.

To tell the visitors of 20,000 pages apart takes most of a report's time and memory, and a panel shows six pages. A
group has at most as many visitors as events, and to count events is cheap. So the groups with the most events are
counted first. Another group is counted only if it has at least as many events as the last group of the answer has
visitors. Usually there is no such group.
"""

from collections.abc import Mapping, Sequence

from analytics.sql import Sql

MOST_FIRST_GROUPS = 500  # of an answer, with its offset
_COUNTED = 3  # groups that are counted first, for each group of the answer


def first_groups(names: Sequence[str], first: int, everything: Sql, counted: Mapping[str, str]) -> dict[str, Sql]:
    """Return the relations by name: `sizes` has all groups, `main` the counts of groups, and `events` the events of
    groups. Both contain the first groups and some others. `names`: of the dimensions. `everything`: all events.
    `counted`: the aggregates by name, with "visitors".
    """
    group = ", ".join(names)
    counts = ", ".join(f"{what} AS {name}" for name, what in counted.items())
    last = f"coalesce((SELECT visitors FROM largest_counted ORDER BY visitors DESC LIMIT 1 OFFSET {first - 1}), 0)"

    def numbered(groups: str) -> Sql:
        return Sql(f"SELECT {group}, row_number() OVER (ORDER BY {group}) AS number FROM ({groups})")

    def counts_of(groups: str) -> str:
        # DuckDB copies the key of a group for each of its visitors. A number is shorter than text.
        by_number = f"SELECT number, {counts} FROM everything JOIN {groups} USING ({group}) GROUP BY number"
        return f"SELECT {group}, counts.* EXCLUDE (number) FROM ({by_number}) AS counts JOIN {groups} USING (number)"

    shown = f"SELECT {group} FROM main WHERE visitors >= {last}"
    return {
        "everything": everything,
        "sizes": Sql(f"SELECT {group}, count(*) AS size FROM everything GROUP BY {group}"),
        "largest": numbered(f"SELECT {group} FROM sizes ORDER BY size DESC, {group} LIMIT {_COUNTED * first}"),
        "largest_counted": Sql(counts_of("largest")),
        "others": numbered(f"SELECT {group} FROM sizes ANTI JOIN largest USING ({group}) WHERE size >= {last}"),
        "main": Sql(f"SELECT * FROM largest_counted UNION ALL {counts_of('others')}"),
        "events": Sql(f"SELECT * FROM everything SEMI JOIN ({shown}) AS shown USING ({group})"),
    }
