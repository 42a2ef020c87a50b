"""`python -m footfall sites`: the settings of each site, as in /admin/sites.

Exits with 0 if it is done, 1 if settings were refused, there is no such site or a store does not answer, and 2 if the
command is wrong.
"""

import json
from collections.abc import Iterable
from typing import Any, TextIO

import click

from analytics.sites.schema import InvalidSite, dump_site, load_changes, load_site
from analytics.sites.site import Site
from analytics.sites.store import Taken
from analytics.wording import printable
from config.services import Services
from footfall.command_group import Group, fail, fail_unknown, services_of

_LISTS = {name for name, value in dump_site(Site("")).items() if isinstance(value, list | tuple)} - {
    "goals",
    "saved_filters",
}

_OTHER_PATHS = "Reports use the rules for paths that were applied before, also for new events."


@click.group("sites", cls=Group)
@click.pass_context
def sites(context: click.Context) -> None:
    """List and change the settings of sites. These are time zone, goals, domains, write key and others."""
    context.obj = services_of(context)


@sites.command("list")
@click.pass_obj
def list_sites(services: Services) -> None:
    """List the sites that have settings, one on each line."""
    click.echo(f"{'write key':36}  {'time zone':20}  {'domains':30}  site")
    for site in services.sites.all():
        domains = ",".join(site.domains) or "any"
        click.echo(f"{site.write_key or '':36}  {site.zone.key:20}  {domains:30}  {site.site_id}")


@sites.command("show")
@click.argument("site_id")
@click.pass_obj
def show(services: Services, site_id: str) -> None:
    """Show the settings of a site as JSON. If it has none, show the defaults."""
    _print(services.sites.get(site_id))


@sites.command("set")
@click.argument("site_id")
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE]...")
@click.option(
    "--from", "file", type=click.File(), help="Replace all settings by those in this JSON file, as `show` prints them."
)
@click.pass_obj
def set_site(services: Services, site_id: str, changes: Iterable[str], file: TextIO | None) -> None:
    """Change settings of a site. Settings that you do not name stay.

    Example: `sites set shop timezone=Europe/Berlin domains=shop.example,shop.test honours_dnt=true retention_days=`.
    An empty value resets a setting to its default. Goals are JSON.
    """
    if bool(file) == bool(changes):
        raise click.UsageError("Give either NAME=VALUE, once or several times, or --from.")
    try:
        if file:
            site = services.sites.put(load_site(site_id, json.load(file)))
        else:
            site = services.sites.change(*load_changes(site_id, dict(map(_change, changes))))
    except json.JSONDecodeError as error:
        raise click.UsageError(f"Not JSON: {error}.") from None
    except InvalidSite as error:
        fail("; ".join(f"{name}: {' '.join(said)}" for name, said in error.fields.items()), 1)
    except Taken as error:
        fail(f"{error.field}: {error}", 1)
    _print(site)
    if services.segments.store.reads_other_paths(site):
        click.echo(f"{_OTHER_PATHS} Run `python -m footfall segments apply-path-rules {printable(site_id)}`.", err=True)


@sites.command("remove")
@click.argument("site_id")
@click.pass_obj
def remove(services: Services, site_id: str) -> None:
    """Remove the settings of a site. Its events stay."""
    if not services.sites.remove(site_id):
        fail_unknown("site with settings", repr(site_id), "sites list")
    click.echo(f"The settings of {site_id} are removed. Its events stay.")


@sites.command("rotate-key")
@click.argument("site_id")
@click.pass_obj
def rotate_key(services: Services, site_id: str) -> None:
    """Give a site a new write key, and print it. The old one stops working within 5 seconds."""
    site = services.sites.rotate_write_key(site_id) or fail_unknown("site with settings", repr(site_id), "sites list")
    click.echo(site.write_key)


def _change(text: str) -> tuple[str, Any]:
    """A name and its value. The value is JSON. Otherwise it is text, or a list of texts, split at commas."""
    name, given, value = text.partition("=")
    if not given:
        raise click.UsageError(f"{text!r} is not NAME=VALUE.")
    try:
        return name, json.loads(value) if value else None
    except json.JSONDecodeError:
        return name, value.split(",") if name in _LISTS else value


def _print(site: Site) -> None:
    click.echo(json.dumps(dump_site(site), indent=2, ensure_ascii=False))
