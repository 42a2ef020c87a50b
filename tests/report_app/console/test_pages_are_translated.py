"""Pages in a language that marks each translated text. What has no mark was written past gettext."""

import re
from gettext import NullTranslations

import pytest

from analytics import languages
from analytics.sites.site import Goal, Site
from config.services import Services
from report_app.pages.explorations import EXPLORATIONS
from report_app.pages.panels import PANELS
from tests.report_app.console.conftest import OLGA, Tell
from tests.report_app.console.test_console_notifications import add as add_rule
from tests.report_app.test_translation import Texts
from tests.support.accounts import Browser, errors_in, token_in

# What is no text of ours: names of users and sites, values that were sent, and what is the same in every language.
SAME = re.compile(
    r"Footfall|CSV|UTC|Esc|[A-Z]|kB|MB|English|Deutsch|min|ms|events|segments|Europe/Berlin|Slack"
    r"|shop(\.example)?|olga@example\.org|Olga?|OL|Deutschland|Frankreich|Google|plan|pro|signup|not_json|invalid_event|refused|poison|dead_letters|pricing|bob|nothing-yet"
    r"|(Mo|Di|Mi|Do|Fr|Sa|So|Jan|Feb|März|Apr|Mai|Juni|Juli|Aug|Sept|Okt|Nov|Dez)"
    r"|ann|https|example\.com/"
)


class Marked(NullTranslations):
    def gettext(self, message: str) -> str:
        return f"⟦{message}⟧" if not re.fullmatch(r"[dMyE .]+", message) else message

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"⟦{msgid1 if n == 1 else msgid2}⟧"


@pytest.fixture
def marking(monkeypatch: pytest.MonkeyPatch) -> None:
    marked = Marked()
    monkeypatch.setattr(languages, "_catalogue", lambda language: marked if language == "de" else NullTranslations())


def unmarked(page: str) -> list[str]:
    """The words of a page that have no mark. A marked text may have tags and other marked texts in it."""
    while (left := re.sub(r"⟦[^⟦⟧]*⟧", " ", page)) != page:
        page = left
    read = Texts()
    read.feed(page)
    words = [word for text in read.found for word in re.findall(r"[^\W\d_][\w.@/-]*", text)]
    return [word for word in words if not SAME.fullmatch(word.rstrip("."))]


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        ("/ops/keys", {"name": "CI", "scopes": "stats:read", "sites": "shpo"},
         "Es gibt keine Website 'shpo'. Meinten Sie 'shop'?"),
        ("/ops/keys", {"name": "CI", "scopes": "admin", "sites": "shop"}, "Ein Schlüssel mit dem Recht admin gilt"),
        ("/ops/keys", {"name": "CI", "scopes": "stats:read", "expires_in": "99999d"}, "Länger als 36500 Tage."),
        ("/ops/notifications/new", {"kind": "silence", "threshold": "2"}, "Nicht von 5 bis 1440."),
        ("/ops/notifications/new", {"kind": "goal", "threshold": "2", "goal": "sigup"},
         "Die Website hat kein Ziel 'sigup'. Meinten Sie 'signup'?"),
        ("/ops/notifications/new", {"kind": "lag", "channel": "email", "target": "a@b.example"},
         "E-Mail ist nicht eingerichtet."),
        ("/ops/site/shop", {"goal_kind": ["event_type"] * 2, "goal_match": ["a", "a"]},
         "Zwei Ziele haben den Namen 'a'."),
        ("/ops/site/shop", {"goal_name": "a"},
         "Schreiben Sie eine Seite wie /docs/** oder den Namen eines Ereignisses."),
        ("/ops/sites/new", {"site_id": "x" * 200}, "Die Länge muss zwischen 1 und 128 liegen."),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_form_is_said_in_german(
    owner: Browser, real: Services, path: str, fields: dict[str, str | list[str]], said: str
):
    real.sites.put(Site("shop", goals=(Goal("signup", "signup"),)))
    token = token_in(owner.get("/ops/keys").text)
    hook = {"site_id": "shop", "channel": "webhook", "target": "https://example.com/hook"}
    given = {"csrf_token": token} | (hook if "notifications" in path else {}) | fields
    answer = owner.client.post(path, data=given, headers={"Accept-Language": "de"})
    assert answer.status_code == 400
    assert said in " ".join(errors_in(answer.text))


def test_a_constant_of_a_page_is_in_the_language_of_each_viewer(owner: Browser):
    for language, role in (("en", "owner"), ("de", "Eigentümer"), ("en", "owner")):
        page = owner.get("/ops/users", headers={"Accept-Language": language}).text
        assert f'<td class="wrap">{role}</td>' in page


def test_every_page_is_translated(owner: Browser, real: Services, tell: Tell, marking: None):
    real.sites.put(Site("shop", domains=("shop.example",), shows_visitors=True))
    tell(
        {"path": "/", "country": "DE", "source": "Google"},
        {"path": "/pricing", "country": "FR", "user_id": "bob"},
        {"event_type": "signup", "props": {"plan": "pro"}, "path": "/"},
        "not json",
    )
    user, rule = real.accounts.find(OLGA), add_rule(real)
    assert user
    paths = [
        "/", "/login", "/account", "/account/two-step", "/account/two-step/off", "/members/shop", "/sharing/shop",
        "/join/nothing", "/site/shop?period=day", "/site/shop?period=7d&f=is,country,DE", "/site/nothing-yet",
        "/site/shop?from=2026-01-01&to=2026-01-31", "/parts/card/shop", "/parts/live/shop", "/parts/world/shop",
        "/now/shop", "/now/nothing-yet",
        "/parts/left-out/shop?period=day", "/parts/left-out/shop?period=day&tab=days", "/visitors/shop",
        "/parts/left-out/shop?period=day&tab=crawlers", "/visitors/shop?visitor=bob", "/site/shop?with=nothing-yet",
        "/ops", "/ops/ledger", "/ops/ledger?site=shop", "/ops/dead-letters", "/ops/dead-letters/purge", "/ops/rates",
        "/ops/dead-letters/replay", "/ops/workers", "/ops/segments", "/ops/sites", "/ops/sites/new", "/ops/site/shop",
        "/ops/remove-site/shop", "/ops/keys", "/ops/users", f"/ops/users/{user.id}", "/ops/notifications",
        f"/ops/notifications/{rule.id}/edit", f"/ops/dead-letters/{user.id}",
        *(f"/ops/notifications/new?kind={kind}" for kind in ("spike", "goal", "weekly", "")),
        *(f"/list/{panel}/shop?period=day" for panel in PANELS),
        *(f"/parts/panel/{panel.name}/shop?period=day&tab={tab.name}"
          for panel in PANELS.values() for tab in (*panel.tabs, *panel.further)),
        *(f"/parts/explore/{name}/shop?period=day" for name in EXPLORATIONS),
    ]  # fmt: skip
    found = {}
    for path in paths:
        answer = owner.get(path, headers={"Accept-Language": "de", "Accept": "text/html"})
        assert answer.status_code in (200, 400, 404), (path, answer.status_code)
        found[path] = unmarked(answer.text)
    assert [f"{path}: {word}" for path, words in found.items() for word in words] == []
