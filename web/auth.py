"""Who may do what, as each key comes in `Authorization: Bearer <key>`. Every route needs a scope, which these have:

    an API key      its own scopes, on its own sites (analytics/access/store.py)
    the admin key   all
    the report key  stats:read, stats:persons
    nobody          stats:read, where reports are open (Settings.reports_are_open)

Out: a before_request function for a blueprint, which admits a request or answers: 401 without a good key, 403 with a
key that is not enough, and if no such key is set. Where reports are open, an API key that is unknown, revoked or
expired is the same as none; a good one counts, so that a request is refused as it would be in production. Reports of
persons and administration are never open, not even on loopback: what listens there is often behind a proxy. An API key
that cannot be looked up is Unavailable.
"""

from collections.abc import Callable, Sequence

from flask import Response, after_this_request, g, request

from analytics.access.store import PERSONS_SCOPE, READ_SCOPE, ApiKey, is_ours
from analytics.events.schema import InvalidEvent, read_json
from config.bearer import bearer, holds
from config.settings import Settings
from web.errors import error_body, error_response

Check = Callable[[], Response | None]
Named = Callable[[], Sequence[str]]

_CLOSED = "Closed until {name} is set, or an API key made; then send it as `Authorization: Bearer <{name}>`."
WRONG = "Send the {word} key as `Authorization: Bearer <{name}>`, or an API key with the scope {scope}."
_UNKNOWN = "This API key is unknown, was revoked or has expired."
NO_SCOPE = "This API key does not have the scope {scope}."
_NO_SITE = "This API key has {scope} for some sites only: say which in site_id."
OTHER_SITE = "This API key has {scope}, but not for the site {site!r}."


def api_key_id() -> str:
    """The id of the API key that the request came with, "" for none."""
    return str(g.get("api_key_id", ""))


def nowhere() -> Sequence[str]:
    """The route is about no single site: a key for some sites may not take it."""
    return ()


def in_path() -> Sequence[str]:
    """The sites that the route's address names."""
    return [site for name, site in (request.view_args or {}).items() if name == "site_id"]


def in_question() -> Sequence[str]:
    """The sites that the query of a GET names, or the body of a POST; as the routes read them. None of a route whose
    address names something else.
    """
    if request.view_args:
        return ()
    if request.method in ("GET", "HEAD"):
        return request.args.getlist("site_id")
    try:
        body = read_json(request.get_data())
    except InvalidEvent:
        return ()
    site = body.get("site_id") if isinstance(body, dict) else None
    return [site] if isinstance(site, str) else []


class Auth:
    """`find`: the API key of a secret, if it is good now; may raise Unavailable."""

    def __init__(self, settings: Settings, find: Callable[[str], ApiKey | None]) -> None:
        self._find = find
        self._admin_key, self._report_key = settings.admin_key, settings.report_key
        self._open = {READ_SCOPE} if settings.reports_are_open else set[str]()

    def needs(self, scope: str, named: Named = nowhere, id_of: Callable[[str], str] = str) -> Check:
        """`named`: where a request says which sites it is about; `id_of`: the id of the site that is named so."""
        word = "report" if scope in (READ_SCOPE, PERSONS_SCOPE) else "admin"
        keys = [key for key in (self._admin_key, self._report_key if word == "report" else "") if key]

        def check() -> Response | None:
            sent = request.headers.get("Authorization", "")
            if any(holds(key, sent) for key in keys):
                return None
            secret = bearer(sent)
            key = self._find(secret) if is_ours(secret) else None
            if key is not None:
                g.api_key_id = str(key.id)
                return _judge(key, scope, named, id_of)
            if scope in self._open:
                if is_ours(secret):
                    after_this_request(_with_warning)
                return None
            if is_ours(secret):
                return _unauthorized(_UNKNOWN)
            name = f"{word.upper()}_KEY"
            if not keys:
                return error_response(403, error_body(f"{word}_key_not_set", _CLOSED.format(name=name)))
            return _unauthorized(WRONG.format(word=word, name=name, scope=scope))

        return check


def _with_warning(response: Response) -> Response:
    response.headers["X-Footfall-Warning"] = f"{_UNKNOWN} Answered as without a key."
    return response


def _judge(key: ApiKey, scope: str, named: Named, id_of: Callable[[str], str]) -> Response | None:
    """Names a site only as the request does, so that a key for other sites does not learn whether there is one."""
    if not key.has(scope):
        return _forbidden(NO_SCOPE.format(scope=scope))
    if key.sites is None:
        return None
    sites = named()
    if not sites:
        return _forbidden(_NO_SITE.format(scope=scope))
    others = [site for site in sites if not key.may(scope, id_of(site))]
    return _forbidden(OTHER_SITE.format(scope=scope, site=others[0])) if others else None


def _unauthorized(message: str) -> Response:
    return error_response(401, error_body("unauthorized", message), {"WWW-Authenticate": "Bearer"})


def _forbidden(message: str) -> Response:
    return error_response(403, error_body("forbidden", message))
