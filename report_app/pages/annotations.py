"""Adds annotations to the chart of a dashboard, and removes them.

Raises the exceptions of report_app.trouble.TROUBLES.
"""

from collections.abc import Mapping

from flask import abort
from werkzeug.wrappers import Response

from analytics.dashboards.annotations import (
    LONGEST_ANNOTATION,
    MOST_ANNOTATIONS,
    Annotation,
    TooManyAnnotations,
)
from analytics.languages import gettext
from analytics.queries.query_schema import day_of
from report_app.pages.page_reports import SiteQuestion, back_to, check_editor


def add_annotation(asked: SiteQuestion, form: Mapping[str, str]) -> Response:
    check_editor(asked, gettext("Only an owner or an editor of this site may change its annotations."))
    text = " ".join(form.get("text", "").split())
    if not 0 < len(text) <= LONGEST_ANNOTATION:
        abort(400, gettext("Describe what happened in 1 to %(most)d characters.", most=LONGEST_ANNOTATION))
    day = day_of(form.get("day", "")) or abort(400, gettext("Choose the day on which it happened."))
    try:
        asked.services.annotations.add(Annotation(asked.site.site_id, day, text))
    except TooManyAnnotations:
        abort(400, gettext("A site has at most %(most)d annotations. Remove one first.", most=MOST_ANNOTATIONS))
    return back_to(asked, asked.state)


def remove_annotation(asked: SiteQuestion, annotation_id: str) -> Response:
    check_editor(asked, gettext("Only an owner or an editor of this site may change its annotations."))
    asked.services.annotations.remove(asked.site.site_id, annotation_id)
    return back_to(asked, asked.state)
