"""`python -m footfall keys`: manages API keys, as /admin/keys does. It also creates the first key.

Exits with 0 if it is done, 1 if there is no such key or site or a store does not answer, and 2 if the command is wrong.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
from marshmallow import Schema, ValidationError

from analytics.access.api_key import SCOPES, ApiKey
from analytics.access.schema import REVOKE_GRACE, NewKey, Rotation, ends_at
from analytics.access.store import ApiKeyStore
from analytics.sites.store import UnknownSite
from footfall.command_group import Group, fail, fail_unknown, services_of

ONCE = "This key is shown only now. Send it as `Authorization: Bearer <key>`:"
OPTIONS = {"scopes": "--scope", "sites": "--site", "expires_in": "--expires-in", "expires_at": "--expires-in"}


@click.group("keys", cls=Group)
@click.pass_context
def keys(context: click.Context) -> None:
    """Make, list and revoke API keys. Each has scopes, and may be for some sites only."""
    context.obj = services_of(context).api_keys


@keys.command("list")
@click.pass_obj
def list_keys(store: ApiKeyStore) -> None:
    """List API keys, newest first, one on each line."""
    now = datetime.now(UTC)
    click.echo(
        f"{'id':36}  {'state':8}  {'created':10}  {'expires':10}  {'last used':16}  {'scopes and sites':40}  name"
    )
    for key in store.list():
        days = f"{key.created_at:%Y-%m-%d}  {f'{key.expires_at:%Y-%m-%d}' if key.expires_at else 'never':10}"
        used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never"
        click.echo(f"{key.id}  {key.state(now):8}  {days}  {used:16}  {_rights(key):40}  {key.name}")


@keys.command("create", epilog="Scopes: " + "; ".join(f"{scope}: {what}" for scope, what in SCOPES.items()) + ".")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(list(SCOPES)),
    help="What the key allows. You can repeat it.",
)
@click.option("--site", "sites", multiple=True, help="Only for this site. You can repeat it.")
@click.option("--expires-in", metavar="LENGTH", help="For example 90d, 24h or 30m. The default is never.")
@click.pass_obj
def create(store: ApiKeyStore, name: str, scopes: Iterable[str], sites: Iterable[str], expires_in: str | None) -> None:
    """Make an API key with this NAME, and print it."""
    asked = {"name": name, "scopes": list(scopes), "sites": list(sites) or None, "expires_in": expires_in}
    key = _load(NewKey(), asked)
    try:
        end = ends_at(key, datetime.now(UTC))
    except ValidationError:
        raise click.UsageError("--expires-in: Not in the future.") from None
    try:
        _show(*store.create(name, key["scopes"], key["sites"], end))
    except UnknownSite as error:
        fail(f"{error.message} Set it up with `python -m footfall sites set`.", 1)


@keys.command("rotate")
@click.argument("key_id", type=click.UUID)
@click.option(
    "--grace", default=f"{REVOKE_GRACE.days}d", show_default=True, help="How long the old secret still works."
)
@click.pass_obj
def rotate(store: ApiKeyStore, key_id: UUID, grace: str) -> None:
    """Give an API key a new secret, and print it."""
    length = _load(Rotation(), {"grace": grace})["grace"]
    what = f"there is no API key {key_id}, or it is revoked or has expired"
    rotated = store.rotate(key_id, length) or fail(f"{what}. Make one with `python -m footfall keys create`.", 1)
    _show(*rotated)


@keys.command("revoke")
@click.argument("key_id", type=click.UUID)
@click.pass_obj
def revoke(store: ApiKeyStore, key_id: UUID) -> None:
    """Revoke an API key. It stops working within 5 seconds."""
    key = store.revoke(key_id) or fail_unknown("API key", key_id, "keys list")
    click.echo(f"{key.id} ({key.name}) is revoked.")


def _load(schema: Schema, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = schema.load(asked)
    except ValidationError as error:
        wrong = (f"{OPTIONS.get(name, f'--{name}')}: {said}" for name, said in error.messages_dict.items())
        raise click.UsageError("; ".join(wrong)) from None
    return loaded


def _show(key: ApiKey, secret: str) -> None:
    """Prints the secret alone to stdout, so that a script can read it. The rest goes to stderr."""
    click.echo(f"{key.id}  {_rights(key)}  {key.name}\n{ONCE}", err=True)
    click.echo(secret)


def _rights(key: ApiKey) -> str:
    return ",".join(sorted(key.scopes)) + (f" on {','.join(sorted(key.sites))}" if key.sites is not None else "")
