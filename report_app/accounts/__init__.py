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
from report_app.page_access import check_csrf
from report_app.page_blueprint import PageBlueprint


def accounts_blueprint(
    authenticator: Authenticator, sharing: SharingStore, attempts: Attempts, clock: Callable[[], datetime]
) -> PageBlueprint:
    blueprint = PageBlueprint("accounts", __name__)
    blueprint.before_request(check_csrf)
    add_sign_in(blueprint, authenticator, attempts, clock)
    add_join(blueprint, authenticator.accounts)
    add_account(blueprint, authenticator, attempts)
    add_members(blueprint, authenticator.accounts)
    add_sharing(blueprint, sharing, attempts, clock)
    return blueprint
