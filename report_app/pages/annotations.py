"""Adds annotations to the chart of a dashboard, and removes them.

Raises the exceptions of report_app.trouble.TROUBLES.
"""

from collections.abc import Mapping

from flask import abort, redirect
from werkzeug.wrappers import Response

from analytics.dashboards.annotations import (
    LONGEST_ANNOTATION,
    MOST_ANNOTATIONS,
    Annotation,
    TooManyAnnotations,
)
from analytics.queries.query_schema import day_of
from report_app.page_access import site_path
from report_app.pages.page_reports import SiteQuestion


def add_annotation(asked: SiteQuestion, form: Mapping[str, str]) -> Response:
    _check_editor(asked)
    text = " ".join(form.get("text", "").split())
    if not 0 < len(text) <= LONGEST_ANNOTATION:
        abort(400, f"Describe what happened in 1 to {LONGEST_ANNOTATION} characters.")
    day = day_of(form.get("day", "")) or abort(400, "Choose the day on which it happened.")
    try:
        asked.services.annotations.add(Annotation(asked.site.site_id, day, text))
    except TooManyAnnotations:
        abort(400, f"A site has at most {MOST_ANNOTATIONS} annotations. Remove one first.")
    return _back(asked)


def remove_annotation(asked: SiteQuestion, annotation_id: str) -> Response:
    _check_editor(asked)
    asked.services.annotations.remove(asked.site.site_id, annotation_id)
    return _back(asked)


def _check_editor(asked: SiteQuestion) -> None:
    if not asked.may_edit:
        abort(403, "Only an owner or an editor of this site may change its annotations.")


def _back(asked: SiteQuestion) -> Response:
    return redirect(f"{site_path(asked.site.site_id)}?{asked.state.as_query()}", 303)
