"""Who asks for a page, and what they may see. Pages are protected by a session, the API by keys (web/auth.py).

A page calls `viewer()`. It returns the signed-in user, or sends the browser to /login. PageBlueprint calls
`check_csrf()` before each request.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast
from urllib.parse import quote, urlencode, urlsplit

from flask import Flask, Response, abort, current_app, g, redirect, request, session, url_for
from flask_wtf.csrf import CSRFProtect

from analytics.accounts.authenticator import Authenticator
from analytics.accounts.sharing import SharedLink, SharingStore
from analytics.accounts.user import Role, User
from analytics.digest import digest_of
from analytics.languages import translatable
from report_app.translation import speak_as_chosen

_EXTENSION = "footfall_page_access"
_USER, _VIEWER, _FRAMERS = "footfall_user", "footfall_viewer", "footfall_framers"  # in g
_TOKEN, _LINKS = "token", "links"  # in the cookie
_MOST_LINKS = 20
_LONGEST_PATH = 2000  # characters

NOT_EMBEDDED = translatable(
    "This site cannot be shown here. Its link has expired, or its sharing page lists no origin."
)

_csrf = CSRFProtect()


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at a page. `name` is "" for a guest. `roles`: the role by site_id. `reads_all`: reports are open."""

    name: str
    is_owner: bool = False
    roles: Mapping[str, Role] = field(default_factory=dict)
    reads_all: bool = False

    def may_read(self, site_id: str) -> bool:
        return self.is_owner or self.reads_all or site_id in self.roles

    def may_edit(self, site_id: str) -> bool:
        return self.is_owner or self.roles.get(site_id) is Role.EDITOR


@dataclass(frozen=True, slots=True)
class _Access:
    authenticator: Authenticator
    sharing: SharingStore
    id_of: Callable[[str], str]
    reports_are_open: bool


def protect_pages(
    app: Flask,
    authenticator: Authenticator,
    sharing: SharingStore,
    id_of: Callable[[str], str],
    *,
    reports_are_open: bool,
) -> None:
    """Pages find their viewer by `authenticator` and `sharing`. `id_of`: the site_id for a name in a route. If reports
    are open (Settings.reports_are_open), every guest may read every site, as with the API. Only pages check CSRF
    tokens: the routes of the API take no cookie, so they need no token.
    """
    app.extensions[_EXTENSION] = _Access(authenticator, sharing, id_of, reports_are_open)
    app.config.update(
        WTF_CSRF_CHECK_DEFAULT=False,
        WTF_CSRF_TIME_LIMIT=None,  # a token is valid as long as its session
        WTF_CSRF_SSL_STRICT=False,  # it needs the Referer, which proxies and browsers may remove; __Host- protects
    )
    _csrf.init_app(app)


def viewer() -> Viewer:
    """The viewer of this request. A guest may be the viewer if reports are open, or if the route's `site_id` names a
    public site, or of one whose shared link the guest opened. Any other request without a user ends: a browser is
    redirected to /login, and htmx is told to go there. If the query has `embed`, the viewer is a guest with the rights
    of that token, and the cookie does not count. Found once in a request. Raises Unavailable.
    """
    if _VIEWER not in g:
        setattr(g, _VIEWER, _find_viewer())
    return cast(Viewer, g.get(_VIEWER))


def _find_viewer() -> Viewer:
    site_id = _access().id_of(str((request.view_args or {}).get("site_id", "")))
    if site_id and (token := request.args.get("embed")):
        return _embedded(site_id, token)
    user = signed_in_user()
    known = Viewer(user.name, user.is_owner, user.roles) if user else Viewer("")
    seen = replace(known, reads_all=_access().reports_are_open)
    if site_id and not seen.may_read(site_id) and _access().sharing.opens(site_id, session.get(_LINKS, ())):
        return replace(seen, roles={**seen.roles, site_id: Role.VIEWER})
    return seen if user or seen.reads_all else abort(_to_login())


def _embedded(site_id: str, token: str) -> Viewer:
    """The viewer of a page in a frame. A framed page has no rights of a user, so no click in it changes anything."""
    setattr(g, _FRAMERS, _access().sharing.framers(site_id, token) or abort(404, NOT_EMBEDDED))
    return Viewer("", roles={site_id: Role.VIEWER})


def framers() -> Sequence[str]:
    """The origins whose pages may show the answer in a frame. Empty unless viewer() found that this is allowed."""
    return cast(Sequence[str], g.get(_FRAMERS, ()))


def open_link(link: SharedLink) -> None:
    """The browser may read the link's site from now on, as long as the link is valid."""
    session.permanent = True
    others = [digest for digest in session.get(_LINKS, ()) if digest != link.digest]
    session[_LINKS] = [link.digest, *others][:_MOST_LINKS]


def check_csrf() -> None:
    """Ends a request that changes something and has no valid CSRF token, with 400. A form sends the token in the field
    `csrf_token`, or in the header X-CSRFToken.
    """
    _csrf.protect()


def required_user() -> User:
    """The signed-in user. Ends the request as viewer() does."""
    return signed_in_user() or abort(_to_login())


def signed_in_user() -> User | None:
    """The signed-in user, looked up once in a request. Their language is spoken from now on. Raises Unavailable."""
    if _USER not in g:
        token = session.get(_TOKEN)
        user = _access().authenticator.user_of(token) if token else None
        setattr(g, _USER, user)
        if user:
            speak_as_chosen(user.language)
    return cast("User | None", g.get(_USER))


def session_digest() -> str:
    """What identifies this browser's session. It is not a secret."""
    return digest_of(session.get(_TOKEN, ""))


def start_session(user: User) -> None:
    """Start a new session for the user. Nothing of the cookie before it stays, so that no other person knows it."""
    end_session()
    session.permanent = True
    session[_TOKEN] = _access().authenticator.sessions.start(user.id, user.epoch)


def end_session() -> None:
    """End the session, and empty the cookie."""
    if token := session.get(_TOKEN):
        _access().authenticator.sessions.end(token)
    session.clear()
    g.pop(_USER, None)
    g.pop(_VIEWER, None)
    g.pop("csrf_token", None)  # Flask-WTF keeps the token of the request there


def site_path(site_id: str) -> str:
    """The path of a site's dashboard."""
    return f"/site/{quote(site_id)}"


def address_of(port: int) -> str:
    """The address of another server on the host under which the browser reaches this one."""
    host = urlsplit(request.host_url).hostname or "localhost"
    return f"{request.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def safe_path(text: str) -> str:
    """A path of this server to continue with, or `/` if the text is anything else, such as the URL of another host."""
    is_path = text.startswith("/") and not text.startswith("//") and text.isprintable() and "\\" not in text
    return text if is_path and len(text) <= _LONGEST_PATH else "/"


def _to_login() -> Response:
    """The answer to a request that needs a user."""
    is_htmx = "HX-Request" in request.headers
    page = _path_in(request.headers.get("HX-Current-URL", "")) if is_htmx else request.full_path.removesuffix("?")
    to = f"{url_for('accounts.login')}?{urlencode({'next': safe_path(page)})}"
    return Response(status=401, headers={"HX-Redirect": to}) if is_htmx else cast(Response, redirect(to, 303))


def _path_in(url: str) -> str:
    """The path and query of a URL, or "" if it cannot be read."""
    try:
        return urlsplit(url)._replace(scheme="", netloc="").geturl()
    except ValueError:
        return ""


def _access() -> _Access:
    return cast(_Access, current_app.extensions[_EXTENSION])
