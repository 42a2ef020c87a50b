"""`python -m footfall segments`: lists segments, verifies them against the events, and rebuilds them.

Exits with 0 if everything is right, with 1 if something is wrong, and with 2 if that is unknown: MongoDB is not
reachable.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime

import click

from analytics.interval import Interval, as_datetime, as_ms, interval_of
from analytics.segments.builder import apply_path_rules, rebuild
from analytics.segments.engine import Segments
from analytics.segments.verification import Verified, months_of, verify
from config.services import Services
from footfall.command_group import COMMAND_PATIENCE, SETTINGS, VerdictGroup, services_of

MONTH = click.DateTime(["%Y-%m"])


def of_months(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that choose a site and its months to a command: `site`, `first` and `last`."""
    site = click.option("--site", help="This site only.")
    first = click.option("--from", "first", type=MONTH, help="From this month on, as 2026-10 (UTC).")
    last = click.option("--to", "last", type=MONTH, help="The last month, which is included, as 2026-10 (UTC).")
    return site(first(last(command)))


@click.group("segments", cls=VerdictGroup)
@click.pass_context
def segments_group(context: click.Context) -> None:
    """List, verify and rebuild segments. Segments are the columnar copy of the events that reports read."""
    context.obj = services_of(context, COMMAND_PATIENCE)


@segments_group.command("list")
@click.option("--site", help="This site only.")
@click.pass_obj
def list_segments(services: Services, site: str | None) -> None:
    """List segments, one on each line."""
    segments = services.segments
    click.echo(f"{'grain':5}  {'start':16}  {'rows':>11}  {'bytes':>13}  {'built':16}  site")
    for site_id in [site] if site is not None else segments.store.sites():
        for s in segments.store.manifest(site_id).segments:
            start, built = as_datetime(s.start), s.built_at
            click.echo(
                f"{s.grain:5}  {start:%Y-%m-%d %H:%M}  {s.rows:11,}  {s.size:13,}  {built:%Y-%m-%d %H:%M}  {site_id}"
            )


@segments_group.command("rebuild")
@of_months
@click.pass_obj
def rebuild_segments(services: Services, site: str | None, first: datetime | None, last: datetime | None) -> None:
    """Rebuild the segments of whole months from raw events. Reports use the old ones until the new ones are ready."""
    segments, start, total = services.segments, time.monotonic(), 0
    for site_id in _sites(segments, site):
        for done in rebuild(segments.builder, site_id, _chosen(months_of(segments, site_id), first, last)):
            total += done.rows
            what = _speed(done.rows, done.seconds) if done.rows else "no events, segments deleted"
            click.echo(f"{_name(done.month)}  {what}  {site_id}")
    click.echo(f"{_speed(total, time.monotonic() - start)} in all")


@segments_group.command("apply-path-rules")
@click.argument("site_id")
@click.pass_context
def apply_rules(context: click.Context, site_id: str) -> None:
    """Let the pages of stored events follow the trailing_slash, path_case and path_rules of the site."""
    services: Services = context.obj
    months = months_of(services.segments, site_id)
    apply_path_rules(services.segments.builder, services.sites.get(site_id), months)
    context.invoke(rebuild_segments, site=site_id)


@segments_group.command("verify")
@of_months
@click.pass_context
def verify_segments(context: click.Context, site: str | None, first: datetime | None, last: datetime | None) -> None:
    """Derive all rows from raw events again, and compare every column. Writes nothing. Takes as long as a rebuild."""
    segments, wrong, waiting = context.obj.segments, 0, 0
    for site_id in _sites(segments, site):
        months = _chosen(months_of(segments, site_id), first, last)
        for found in verify(segments, site_id, months, context.meta[SETTINGS].most_fresh):
            _say(found)
            wrong += not found.is_right
            waiting += found.waits
    if waiting:
        click.echo("Workers build months again, because their rules for paths changed. Verify these months later.")
    elif not wrong:
        click.secho("Segments and events agree.", fg="green")
    sys.exit(bool(wrong))


def _say(found: Verified) -> None:
    month, site_id = _name(found.month), found.site_id
    hours = f"{found.events:,} events, {len(found.differences)} hours differ"
    if found.is_right:
        what = f"{hours} until it is built again" if found.waits else f"{found.events:,} events, no difference"
        click.echo(f"{month}  {what}  {site_id}")
        return
    remedy = f"python -m footfall segments rebuild --site {site_id} --from {month} --to {month}"
    if found.lost:
        click.secho(f"{month}  {found.lost}  {site_id}", fg="red")
    else:
        click.secho(f"{month}  {hours}  {site_id}", fg="red")
    for each in found.differences:
        hour = f"{as_datetime(each.hour):%Y-%m-%d %H:00}"
        click.echo(f"    {hour}  events: {each.stored:,}  segments: {each.read:,}")
    click.echo(f"    Run `{remedy}`.")


def _sites(segments: Segments, site: str | None) -> Iterable[str]:
    return sorted({*segments.raw.sites(), *segments.store.sites()}) if site is None else [site]


def _chosen(months: Sequence[Interval], first: datetime | None, last: datetime | None) -> Iterator[Interval]:
    lo = as_ms(first.replace(tzinfo=UTC)) if first else 0
    hi = interval_of("month", as_ms(last.replace(tzinfo=UTC))).end if last else None
    return (month for month in months if lo <= month.start and (hi is None or month.end <= hi))


def _name(month: Interval) -> str:
    return f"{as_datetime(month.start):%Y-%m}"


def _speed(events: int, seconds: float) -> str:
    return f"{events:,} events in {seconds:.1f} s, {events / max(seconds, 0.001):,.0f} a second"
