"""The pages of accounts: sign-in, invitations, a user's own account, the members of a site, and how it is shared."""

from collections.abc import Callable
from datetime import datetime

from analytics.accounts.authenticator import Authenticator
from analytics.accounts.sharing import SharingStore
from report_app.accounts.account import add_account
from report_app.accounts.attempts import Attempts
from report_app.accounts.join import add_join
from report_app.accounts.members import add_members
from report_app.accounts.share import add_sharing
from report_app.accounts.sign_in import add_sign_in
from report_app.page_blueprint import PageBlueprint
from report_app.site_lookup import SiteLookup


def accounts_blueprint(
    authenticator: Authenticator,
    sharing: SharingStore,
    site_called: SiteLookup,
    attempts: Attempts,
    clock: Callable[[], datetime],
) -> PageBlueprint:
    blueprint = PageBlueprint("accounts", __name__)
    add_sign_in(blueprint, authenticator, attempts, clock)
    add_join(blueprint, authenticator.accounts)
    add_account(blueprint, authenticator, attempts)
    add_members(blueprint, authenticator.accounts, site_called)
    add_sharing(blueprint, sharing, site_called, attempts, clock)
    return blueprint
