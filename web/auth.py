"""Checks the key in `Authorization: Bearer <key>`. Every route needs a scope. These have scopes:

    an API key      its own scopes, on its own sites (analytics/access/api_key.py)
    the admin key   all
    the report key  stats:read, stats:persons
    no key          stats:read, if reports are open (Settings.reports_are_open)

Auth.needs returns a before_request function for a blueprint. The function admits a request or answers: 401 without a
valid key, 403 with a key that does not suffice, and 403 if no such key is set. Callers must handle Unavailable: an API
key could not be looked up.

If reports are open, an API key that is unknown, revoked or expired counts as none. A valid API key counts, so that a
request is refused as it would be in production. Reports about persons and administration are never open, not even on
loopback, because a server on loopback is often behind a proxy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flask import Response, after_this_request, g, request

from analytics.access.api_key import PERSONS_SCOPE, READ_SCOPE, ApiKey, is_ours
from analytics.json_input import NotJson, read_json
from config.bearer import bearer, holds
from config.settings import Settings
from web.errors import error_body, error_response

Named = Callable[[], Sequence[str]]
MOST_NAMED = 100  # sites of one request that are looked up

_CLOSED = (
    "The server has no {name}. Set {name} and send it as `Authorization: Bearer <{name}>`, or make an API key with"
    " `python -m footfall keys create NAME --scope {scope}` and send it."
)
WRONG = (
    "The key is missing or wrong. Send {name} as `Authorization: Bearer <{name}>`, or an API key with the scope"
    " {scope}."
)
_UNKNOWN = "This API key is unknown, revoked or expired."
NO_SCOPE = "This API key does not have the scope {scope}. Send a key that has it."
_NO_SITE = (
    "This API key has {scope} for some sites only, and the request names no site. Send one of its sites as site_id. If"
    " the route takes no site_id, send a key for all sites."
)
OTHER_SITE = "This API key has {scope}, but not for the site {site!r}. Send a key for this site."


def api_key_id() -> str:
    """The id of the request's API key, "" if it has none."""
    key: ApiKey | None = g.get("api_key")
    return str(key.id) if key else ""


def key_may(scope: str, site_id: str) -> bool:
    """Whether the request may do this on the site. A request without an API key was admitted for all sites."""
    key: ApiKey | None = g.get("api_key")
    return key is None or key.may(scope, site_id)


def nowhere() -> Sequence[str]:
    """The route is not about a single site, so a key for some sites may not use it."""
    return ()


def in_path() -> Sequence[str]:
    """The sites in the route's path."""
    return [site for name, site in (request.view_args or {}).items() if name == "site_id"]


def in_question() -> Sequence[str]:
    """The sites in the query of a GET or the body of a POST, read as the routes read them.

    Empty if the path names something else, or if they are more than MOST_NAMED.
    """
    if request.view_args:
        return ()
    if request.method in ("GET", "HEAD"):
        sites = request.args.getlist("site_id")
        return sites if len(sites) <= MOST_NAMED else ()
    try:
        body = read_json(request.get_data())
    except NotJson:
        return ()
    named = body.get("site_id") if isinstance(body, dict) else None
    several = named if isinstance(named, list) and len(named) <= MOST_NAMED else [named]
    sites = [site for site in several if isinstance(site, str)]
    return sites if len(sites) == len(several) else ()


@dataclass(frozen=True, slots=True)
class Check:
    """A before_request function for routes that need `scope`. The description of a route names this scope."""

    scope: str
    check: Callable[[], Response | None]

    def __call__(self) -> Response | None:
        return self.check()


class Auth:
    """`find`: returns the API key for a secret if it is valid now, and may raise Unavailable."""

    def __init__(self, settings: Settings, find: Callable[[str], ApiKey | None]) -> None:
        self._find = find
        self._admin_key, self._report_key = settings.admin_key, settings.report_key
        self._open = {READ_SCOPE} if settings.reports_are_open else set[str]()

    def needs(self, scope: str, named: Named | None = nowhere, id_of: Callable[[str], str] = str) -> Check:
        """A check for routes that need `scope`.

        `named`: the sites that a request is about; None if the view checks each site with `key_may`. `id_of`: the
        site_id for such a name.
        """
        word = "report" if scope in (READ_SCOPE, PERSONS_SCOPE) else "admin"
        keys = [key for key in (self._admin_key, self._report_key if word == "report" else "") if key]

        def check() -> Response | None:
            sent = request.headers.get("Authorization", "")
            if any(holds(key, sent) for key in keys):
                return None
            secret = bearer(sent)
            key = self._find(secret) if is_ours(secret) else None
            if key is not None:
                g.api_key = key
                return _judge(key, scope, named, id_of)
            if scope in self._open:
                if is_ours(secret):
                    after_this_request(_with_warning)
                return None
            if is_ours(secret):
                return _unauthorized(f"{_UNKNOWN} Send another key.")
            name = f"{word.upper()}_KEY"
            if not keys:
                return error_response(403, error_body(f"{word}_key_not_set", _CLOSED.format(name=name, scope=scope)))
            return _unauthorized(WRONG.format(name=name, scope=scope))

        return Check(scope, check)


def _with_warning(response: Response) -> Response:
    response.headers["X-Footfall-Warning"] = f"{_UNKNOWN} The server answered as if no key was sent."
    return response


def _judge(key: ApiKey, scope: str, named: Named | None, id_of: Callable[[str], str]) -> Response | None:
    """Checks the scope and sites of a key. Returns None or the answer 403.

    The answer names a site only as the request does, so that a key for other sites does not reveal whether a site
    exists.
    """
    if not key.has(scope):
        return _forbidden(NO_SCOPE.format(scope=scope))
    if key.sites is None or named is None:
        return None
    sites = named()
    if not sites:
        return _forbidden(_NO_SITE.format(scope=scope))
    other = next((site for site in sites if not key.may(scope, id_of(site))), None)
    return None if other is None else _forbidden(OTHER_SITE.format(scope=scope, site=other))


def _unauthorized(message: str) -> Response:
    return error_response(401, error_body("unauthorized", message), {"WWW-Authenticate": "Bearer"})


def _forbidden(message: str) -> Response:
    return error_response(403, error_body("forbidden", message))
