"""The goals of a site as rows of a form. Pure.

The form sends `goal_kind`, `goal_match`, `goal_name` and `goal_currency` for each row. A button named `goal_rows` adds
or removes a row and saves nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest

from werkzeug.datastructures import MultiDict

from analytics.languages import translatable
from analytics.sites.schema import VISIT
from analytics.sites.site import Goal

NO_MATCH = translatable("Write a page such as /docs/** or the name of an event.")


@dataclass(frozen=True, slots=True)
class GoalRow:
    """A goal as it is written in the form. `kind` is "page" or "event_type". `match` is the page or the event type."""

    kind: str = "page"
    match: str = ""
    name: str = ""
    currency: str = ""

    @property
    def is_blank(self) -> bool:
        return not (self.match or self.name or self.currency)

    def as_json(self) -> dict[str, str]:
        """The goal as the API takes it."""
        kind = "page" if self.kind == "page" else "event_type"
        return {kind: self.match, "name": self.name, "currency": self.currency.upper()}


def rows_of(goals: Sequence[Goal]) -> list[GoalRow]:
    return [
        GoalRow(
            "page" if goal.page else "event_type",
            goal.page or goal.event_type or "",
            "" if goal.name in (goal.event_type, f"{VISIT}{goal.page}") else goal.name,
            goal.currency or "",
        )
        for goal in goals
    ]


def sent_rows(form: MultiDict[str, str]) -> list[GoalRow]:
    columns = [map(str.strip, form.getlist(f"goal_{field.name}")) for field in fields(GoalRow)]
    return [GoalRow(*row) for row in zip_longest(*columns, fillvalue="")]


def filled(rows: Sequence[GoalRow]) -> list[GoalRow]:
    return [row for row in rows if not row.is_blank]


def with_change(rows: Sequence[GoalRow], change: str) -> list[GoalRow]:
    """The rows after the change that a button asks for: "add", or the number of the row to remove."""
    return [*rows, GoalRow()] if change == "add" else [row for n, row in enumerate(rows) if str(n) != change]


def by_row(errors: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Errors by field of the form: those about `goals.0.page` belong to `goal-0-match`. Others stay."""
    return dict(_in_form(name, sentences) for name, sentences in errors.items())


def _in_form(name: str, sentences: Sequence[str]) -> tuple[str, Sequence[str]]:
    match name.split("."):
        case ["goals", number]:
            return f"goal-{number}-match", [NO_MATCH]
        case ["goals", number, "page" | "event_type"]:
            return f"goal-{number}-match", sentences
        case ["goals", number, field]:
            return f"goal-{number}-{field}", sentences
    return name, sentences
