"""`python -m footfall users`: invites, lists and removes the people who sign in to the pages of the reporting app.

Exits with 0 if it is done, 1 if there is no such user or a store does not answer, and 2 if the command is wrong.
"""

from uuid import UUID

import click

from analytics.accounts.invitation import join_url
from analytics.accounts.passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD, hash_password
from analytics.accounts.store import AccountStore
from analytics.accounts.user import SITE_ROLES, Role, User, plain_email
from analytics.sites.store import UnknownSite
from config.services import Services
from config.settings import Settings
from footfall.command_group import SETTINGS, Group, fail, fail_unknown, services_of


class _Email(click.ParamType[str]):
    name = "email"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return plain_email(value) or self.fail(f"{value!r} is not an e-mail address", param, ctx)


_EMAIL = _Email()
_SERVICES = "footfall.services"  # in the context's meta
_URL = click.option("--url", help="The address of the reporting app, as the person reaches it.")


def _url_of(context: click.Context, token: str, url: str | None) -> str:
    settings: Settings = context.meta[SETTINGS]
    return join_url(url or f"http://{settings.reached_at}:{settings.reporting_port}", token)


@click.group("users", cls=Group)
@click.pass_context
def users(context: click.Context) -> None:
    """Invite, list and remove the people who sign in to the dashboard."""
    context.meta[_SERVICES] = services = services_of(context)
    context.obj = services.accounts


@users.command("list")
@click.pass_obj
def list_users(store: AccountStore) -> None:
    """List users, by e-mail address, one on each line."""
    for user in store.list():
        roles = "owner" if user.is_owner else ", ".join(f"{role} of {site}" for site, role in user.roles.items())
        click.echo(f"{user.email:40}  {'two-step' if user.two_step else 'password':8}  {roles or 'no site'}")


@users.command("invite-owner")
@click.option("--email", type=_EMAIL, help="Only for this address. The default is any.")
@_URL
@click.pass_context
def invite_owner(context: click.Context, email: str | None, url: str | None) -> None:
    """Print a link that creates an owner. It works once, within a day."""
    store: AccountStore = context.obj
    token = store.invite_owner(email)
    click.echo(_url_of(context, token, url))


@users.command("invite")
@click.argument("email", type=_EMAIL)
@click.argument("site")
@click.option(
    "--role", type=click.Choice([role.value for role in SITE_ROLES]), default=Role.VIEWER.value, show_default=True
)
@_URL
@click.pass_context
def invite(context: click.Context, email: str, site: str, role: str, url: str | None) -> None:
    """Print a link that gives EMAIL a role for SITE. It works once, within 7 days."""
    services: Services = context.meta[_SERVICES]
    try:
        (site_id,) = services.sites.ids_of([site])
    except UnknownSite as error:
        fail(f"{error.message} Set it up with `python -m footfall sites set`.", 1)
    token = services.accounts.invite(email, site_id, Role(role))
    click.echo(_url_of(context, token, url))


@users.command("role")
@click.argument("email", type=_EMAIL)
@click.argument("site")
@click.argument("role", type=click.Choice([*(role.value for role in SITE_ROLES), "none"]))
@click.pass_context
def set_role(context: click.Context, email: str, site: str, role: str) -> None:
    """Give a user another ROLE for SITE, or none."""
    services: Services = context.meta[_SERVICES]
    site_id = services.sites.id_of(site)
    services.accounts.set_role(_id_of(services.accounts, email), site_id, None if role == "none" else Role(role))
    click.echo(f"{email} has {'no role' if role == 'none' else f'the role {role}'} for {site_id}.")


@users.command("password")
@click.argument("email", type=_EMAIL)
@click.password_option(help="The new password. If it is not given, the command asks for it.")
@click.pass_obj
def set_password(store: AccountStore, email: str, password: str) -> None:
    """Give a user who forgot theirs a new password, and end their sessions."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise click.UsageError(f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.")
    store.set_password(_id_of(store, email), hash_password(password))
    click.echo(f"{email} has a new password. All their sessions have ended.")


@users.command("two-step-off")
@click.argument("email", type=_EMAIL)
@click.pass_obj
def two_step_off(store: AccountStore, email: str) -> None:
    """Turn two-step sign-in off for a user who lost their app and their recovery codes."""
    store.set_two_step(_id_of(store, email), None)
    click.echo(f"{email} signs in with the password only.")


@users.command("sign-out")
@click.argument("email", type=_EMAIL)
@click.pass_obj
def sign_out(store: AccountStore, email: str) -> None:
    """End all sessions of a user."""
    store.end_sessions(_id_of(store, email))
    click.echo(f"All sessions of {email} have ended.")


@users.command("remove")
@click.argument("email", type=_EMAIL)
@click.pass_obj
def remove(store: AccountStore, email: str) -> None:
    """Remove a user. Their sessions end."""
    store.remove(_id_of(store, email))
    click.echo(f"{email} is removed.")


def _id_of(store: AccountStore, email: str) -> UUID:
    user: User = store.find(email) or fail_unknown("user", email, "users list")
    return user.id
