"""Who changes a site on its pages: an owner, or an editor of the site."""

from flask import abort

from analytics.accounts.user import User
from analytics.queries.query_schema import check_site_id
from report_app.page_access import required_user
from report_app.site_lookup import SiteLookup


def editor_of(site_called: SiteLookup, name: str, refusal: str) -> tuple[User, str]:
    """The signed-in user, who may edit the site with this name, and its site_id. Others get 403 with `refusal`, and do
    not learn whether the site exists. Raises UnknownSite and InvalidQuery.
    """
    user = required_user()
    if not user.may_edit(site_called.id_of(name)):
        abort(403, refusal)
    return user, site_called(check_site_id(name)).site_id
