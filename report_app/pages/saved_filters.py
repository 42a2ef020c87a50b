"""Saves the filters of a dashboard under a name, and removes them.

Raises the exceptions of report_app.trouble.TROUBLES.
"""

import json
from dataclasses import replace

from flask import abort
from werkzeug.wrappers import Response

from analytics.languages import gettext
from analytics.sites.schema import LONGEST_SAVED, LONGEST_SAVED_NAME, MOST_SAVED
from analytics.sites.store import TooManySaved
from report_app.pages.page_reports import SiteQuestion, back_to, check_editor
from report_app.pages.page_state import PageState


def save_filter(asked: SiteQuestion, given_name: str) -> Response:
    """Saves the filters of the state, and opens the page with the saved filter instead of them."""
    check_editor(asked, gettext("Only an owner or an editor of this site may change its saved filters."))
    name, filters = given_name.strip(), json.dumps(asked.question["filters"], separators=(",", ":"))
    if not 0 < len(name) <= LONGEST_SAVED_NAME:
        abort(400, gettext("Give the filter a name of 1 to %(most)d characters.", most=LONGEST_SAVED_NAME))
    if not asked.state.filters or asked.state.saved_filters:
        abort(400, gettext("Add a filter to the page first. A saved filter cannot be a part of another one."))
    if len(filters) > LONGEST_SAVED:
        abort(400, gettext("The filters are too long to be saved."))
    asked.check()
    try:
        saved = asked.services.sites.save_filter(asked.site.site_id, name, filters)
    except TooManySaved:
        abort(400, gettext("A site has at most %(most)d saved filters. Remove one first.", most=MOST_SAVED))
    return back_to(asked, asked.state.with_saved(saved.id))


def remove_filter(asked: SiteQuestion, filter_id: int) -> Response:
    """Removes a saved filter, also from the page that the browser returns to."""
    check_editor(asked, gettext("Only an owner or an editor of this site may change its saved filters."))
    asked.services.sites.remove_filter(asked.site.site_id, filter_id)
    gone = PageState("day").with_saved(filter_id).filters[0]
    return back_to(asked, replace(asked.state, filters=tuple(each for each in asked.state.filters if each != gone)))
