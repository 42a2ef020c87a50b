"""`python -m footfall check https://shop.example/`: whether a page has the tracker, and its events are accepted.

Prints a line per check. Exits with 0 if there is no problem, otherwise with 1. The event that it sends changes no
report: it is only validated, or for a tag of Plausible's or Umami's it is a bot's. A script that is inserted by
JavaScript, as by a tag manager, is not found.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from html.parser import HTMLParser
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import click

from analytics.diagnostics.finding import Finding, ok, problem
from analytics.wording import printable
from footfall.content_policy import CONNECT, SCRIPT, blocking
from footfall.doctor import COLOURS, begin

LARGEST_PAGE = 2_000_000  # bytes of an answer
FETCH_LIMIT = 15.0  # seconds for one answer
_MOST_SHOWN = 300  # characters of what a page says
_TAG = '<script defer src="https://your-ingestion-server/js/footfall.js" data-site="your-site"></script>'
USER_AGENT = "footfall-check (bot)"  # a worker drops events of bots
_NAMES_SITE = ("data-site", "data-website-id", "data-domain")  # attributes of our tag, of Umami's and of Plausible's
_ACCEPTS = "{} accepts the page's events."
_NO_ANSWER = "Check that this is the ingestion app, and that a proxy passes this address on."


class NotLoaded(Exception):
    """The message says why, without a full stop."""


class _Redirects(HTTPRedirectHandler):
    max_redirections = 5

    def redirect_request(self, request: Request, answer: Any, *given: Any) -> Request | None:
        try:
            _require_web(given[-1])
        except (NotLoaded, ValueError):
            answer.close()
            raise
        return super().redirect_request(request, answer, *given)


def _require_web(url: str) -> None:
    """Raises NotLoaded. A page must not make this command read a file, or use another protocol."""
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise NotLoaded(f"{url[:_MOST_SHOWN]} is no address that begins with https:// or http://")


@dataclass(frozen=True)
class Loaded:
    """An answer. `url`: the address after redirects."""

    url: str
    status: int
    headers: Message
    body: bytes


def fetch(url: str, body: bytes | None = None, **headers: str) -> Loaded:
    """Raises NotLoaded if there is no answer, or one that takes too long."""
    try:
        _require_web(url)
        request = Request(url, body, {"User-Agent": USER_AGENT} | headers)  # noqa: S310 checked above
        # In a thread, because a server may send byte by byte.
        loaded: Loaded = begin(lambda: _load(request)).result(FETCH_LIMIT)
    except TimeoutError:
        raise NotLoaded("it did not answer in time") from None
    except (OSError, HTTPException, ValueError) as error:  # ValueError: what is no URL
        raise NotLoaded(str(getattr(error, "reason", error)) or type(error).__name__) from None
    return loaded


def _load(request: Request) -> Loaded:
    try:
        answer = build_opener(_Redirects).open(request, timeout=FETCH_LIMIT)
    except HTTPError as error:
        answer = error
    with answer:
        return Loaded(answer.url, answer.status, answer.headers, answer.read(LARGEST_PAGE))


class Page(HTMLParser):
    """The tracker's tags, and the policies in the page."""

    def __init__(self, loaded: Loaded) -> None:
        super().__init__()
        self.url = loaded.url
        self.policies = [
            policy for header in loaded.headers.get_all("Content-Security-Policy", []) for policy in header.split(",")
        ]
        self.tags: list[dict[str, str]] = []
        self.feed(loaded.body.decode(errors="replace"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "script" and "src" in found and (_is_ours(found) or found.keys() & {*_NAMES_SITE}):
            self.tags.append(found)
        if tag == "meta" and found.get("http-equiv", "").lower() == "content-security-policy":
            self.policies.append(found.get("content", ""))


def _is_ours(tag: dict[str, str]) -> bool:
    """Whether this is our own tag, and not one of a system that Footfall stands in for."""
    return "data-site" in tag or re.split("[?#]", tag["src"])[0].endswith("/js/footfall.js")


def check_page(url: str) -> Iterator[Finding]:
    """The findings, until one makes the rest impossible."""
    try:
        loaded = fetch(url)
    except NotLoaded as error:
        yield problem(f"The page could not be loaded: {error}.", "Check the address, and that the server runs.")
        return
    if loaded.status != 200:
        yield problem(f"The page answers with status {loaded.status}.", "Give the address of a page of the site.")
        return
    yield ok(f"The page was loaded from {loaded.url}.")
    page = Page(loaded)
    if not page.tags:
        yield problem("The page has no tag of the tracker.", f"Add it to the page: {_TAG}")
        return
    try:
        yield from check_tag(page, next(filter(_is_ours, page.tags), page.tags[0]))
    except ValueError as error:
        yield problem(f"The tag of the tracker has an address that is no URL: {error}.", f"The tag is: {_TAG}")


def check_tag(page: Page, tag: dict[str, str]) -> Iterator[Finding]:
    script = urljoin(page.url, tag["src"])
    names_site = next((name for name in _NAMES_SITE if tag.get(name)), None)
    if names_site is None:
        yield problem("The tag of the tracker has no data-site.", "Set data-site to the site_id of the site.")
        return
    site = tag[names_site]
    endpoint = urljoin(page.url, _endpoint_of(tag, script, names_site))
    yield ok(f"The page has the tracker of the site {site[:_MOST_SHOWN]}.")
    for names, target in ((SCRIPT, script), (CONNECT, endpoint)):
        if directive := blocking(
            page.policies, names, target, page.url, tag.get("nonce", "") if names is SCRIPT else ""
        ):
            origin = "{0.scheme}://{0.netloc}".format(urlsplit(target))
            yield problem(
                f"The page's Content-Security-Policy blocks {target}: {directive}.",
                f"Add {origin} to {names[-2]} of the policy.",
            )
        else:
            yield ok(f"The page's Content-Security-Policy allows {target}.")
    yield _script_found(script)
    match names_site:
        case "data-domain":
            yield _plausible_event_accepted(endpoint, site, page.url)
        case "data-website-id":
            yield _umami_event_accepted(endpoint, site, page.url)
        case _:
            yield _event_accepted(endpoint, site, page.url)


def _endpoint_of(tag: dict[str, str], script: str, names_site: str) -> str:
    """The address to which the script sends events, as ingest_app/js finds it."""
    match names_site:
        case "data-domain":
            return tag.get("data-api") or urljoin(script, "/api/event")
        case "data-website-id":
            return (tag.get("data-host-url") or re.sub("(/js)?/[^/]*$", "", script)).rstrip("/") + "/api/send"
    server = tag.get("data-api") or re.sub("/js/[^/]*$", "", script)
    return tag.get("data-endpoint") or f"{server}/events"


def _script_found(script: str) -> Finding:
    remedy = (
        "Open this address in a browser. It must be /js/footfall.js or the site's script_path of the ingestion app."
    )
    try:
        loaded = fetch(script)
    except NotLoaded as error:
        return problem(f"The script {script} could not be loaded: {error}.", remedy)
    if loaded.status != 200 or "javascript" not in loaded.headers.get("Content-Type", ""):
        return problem(f"{script} is no script: it answers with status {loaded.status}.", remedy)
    if b"footfall" not in loaded.body:
        return problem(f"{script} is a script of another system.", "Let its host lead to the ingestion app.")
    return ok("The script can be loaded.")


def _event_accepted(endpoint: str, site_id: str, page: str) -> Finding:
    event = {"site_id": site_id, "event_type": "pageview", "url": page}
    try:
        loaded = _sent(f"{endpoint}?validate=1", {"events": [event]}, page)
        answer = json.loads(loaded.body)
        wrong = [each["message"] for each in answer.get("rejected", [])] or [
            answer.get("message") or f"status {loaded.status}."
        ]
    except (NotLoaded, ValueError, LookupError, TypeError, AttributeError) as error:
        return problem(f"{endpoint} gave no answer of Footfall: {error}.", _NO_ANSWER)
    if loaded.status != 200 or answer.get("rejected"):
        return problem(f"{endpoint} does not accept the page's events: {wrong[0]}", "Change the site, or data-site.")
    return ok(_ACCEPTS.format(endpoint))


def _plausible_event_accepted(endpoint: str, domains: str, page: str) -> Finding:
    try:
        loaded = _sent(endpoint, {"n": "pageview", "u": page, "d": domains}, page)
    except NotLoaded as error:
        return problem(f"{endpoint} gave no answer of Footfall: {error}.", _NO_ANSWER)
    if loaded.status != 202:
        return problem(f"{endpoint} does not accept the page's events: status {loaded.status}.", _NO_ANSWER)
    if loaded.headers.get("x-plausible-dropped"):
        remedy = "Set the domains of the site, and look at what else drops events (docs/troubleshooting.md)."
        return problem(f"{endpoint} does not count the events of {domains[:_MOST_SHOWN]}.", remedy)
    return ok(_ACCEPTS.format(endpoint))


def _umami_event_accepted(endpoint: str, website: str, page: str) -> Finding:
    payload = {"website": website, "hostname": urlsplit(page).hostname, "url": page}
    try:
        loaded = _sent(endpoint, {"type": "event", "payload": payload}, page)
        answer = json.loads(loaded.body)
        wrong = answer.get("message") or f"status {loaded.status}."
    except (NotLoaded, ValueError, AttributeError) as error:
        return problem(f"{endpoint} gave no answer of Footfall: {error}.", _NO_ANSWER)
    if loaded.status != 200:
        remedy = "Set write_key of the site to data-website-id."
        return problem(f"{endpoint} does not accept the page's events: {wrong}", remedy)
    return ok(_ACCEPTS.format(endpoint))


def _sent(endpoint: str, body: object, page: str) -> Loaded:
    """Send what a page would send. Raises NotLoaded."""
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(page))
    return fetch(endpoint, json.dumps(body).encode(), Origin=origin, **{"Content-Type": "text/plain"})


@click.command("check")
@click.argument("url")
def check_command(url: str) -> None:
    """Load a page, and check that it has the tracker and that its events are accepted."""
    is_sound = True
    for finding in check_page(url):
        is_sound = is_sound and finding.state == "ok"
        said = printable(f"{finding.what} {finding.remedy}".strip())
        click.echo(f"{click.style(f'{finding.state:9}', fg=COLOURS[finding.state])} {said}")
    sys.exit(0 if is_sound else 1)
