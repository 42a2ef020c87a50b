"""Enrichment, step by step: what is set, kept and dropped, and what happens if a step has a bug."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from structlog.testing import capture_logs

from analytics.enrichment import steps as enriching
from analytics.enrichment.geolocation import Places
from analytics.enrichment.spam_referrers import SpamReferrers
from analytics.enrichment.steps import STEPS, Draft, Lookups, enrich, language_of, screen_of
from analytics.events.drop import Drop
from analytics.events.event import Event
from analytics.events.schema import load_event
from analytics.sites.schema import load_site
from analytics.sites.site import Site
from analytics.visitors.client import Client
from tests.analytics.enrichment.test_geolocation import DBIP, GEOLITE, write
from tests.support.services import NOW

SITE = Site("shop")
CHROME = Client(
    user_agent="Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile"
    " Safari/537.36"
)
GOOGLEBOT = Client(user_agent="Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)")


def event(**body: Any) -> Event:
    return load_event({"site_id": "shop", "event_type": "pageview"} | body, NOW)


def enriched(site: Site = SITE, client: Client | None = None, lookups: Lookups | None = None, **body: Any) -> Event:
    found = enrich(event(**body), client, site, lookups or Lookups())
    assert isinstance(found, Event)
    return found


def dropped(site: Site = SITE, client: Client | None = None, lookups: Lookups | None = None, **body: Any) -> str:
    found = enrich(event(**body), client, site, lookups or Lookups())
    assert isinstance(found, Drop)
    assert found.site_id == "shop"
    return found.reason


def test_an_event_without_url_and_client_stays_unchanged():
    plain = event(path="/a", user_id="anna", props={"a": 1})
    assert enrich(plain, None, SITE, Lookups()) == plain


def test_url_and_client_are_never_stored():
    found = enriched(client=CHROME, url="https://www.shop.example/pricing?utm_source=google&utm_medium=cpc#top")
    assert found.url is None
    assert found.client is None
    assert (found.hostname, found.path) == ("shop.example", "/pricing")
    assert found.described == {
        "browser": "Chrome", "browser_version": "142.0", "os": "Android", "os_version": "10", "device": "Mobile",
        "utm_source": "google", "utm_medium": "cpc", "source": "Google", "channel": "Paid Search",
    }  # fmt: skip


def test_fields_that_the_client_sent_are_kept():
    said = {
        "browser": "Lynx", "os": "Plan 9", "device": "Terminal", "source": "word of mouth", "channel": "Friends",
        "utm_source": "flyer", "country": "FR", "language": "fr",
    }  # fmt: skip
    client = structs.replace(CHROME, languages="de-DE", place=(("country", "DE"), ("region", "BE"), ("city", "Berlin")))
    found = enriched(
        client=client, hostname="other.example", path="/given", **said, url="https://shop.example/?gclid=1"
    )
    assert found.described == said | {"utm_medium": "(gclid)"}
    assert (found.hostname, found.path) == ("other.example", "/given")


def test_a_path_and_a_hostname_that_were_given_are_cleaned():
    found = enriched(hostname="WWW.Shop.Example", path="/search?q=shoes&email=anna@mail.example")
    assert (found.hostname, found.path) == ("shop.example", "/search")
    assert enriched(Site("shop", allowed_parameters=("q",)), path="/search?q=shoes&email=a").path == "/search?q=shoes"
    assert enriched(path="").path == ""


def test_a_campaign_in_a_path_counts():
    assert enriched(path="/a?utm_source=mail").described == {
        "utm_source": "mail", "source": "mail", "channel": "Referral"
    }  # fmt: skip


def test_a_referrer_loses_its_query_and_a_referrer_of_the_same_site_is_removed():
    found = enriched(url="https://shop.example/", referrer="https://anna:x@mail.example/inbox?id=7#letter")
    assert (found.described or {})["referrer"] == "https://mail.example/inbox"
    own = Site("shop", domains=("shop.example", "blog.example"))
    for referrer in ("https://shop.example/a", "https://www.shop.example/", "https://blog.example/post"):
        assert enriched(own, url="https://shop.example/b", referrer=referrer).described == {"channel": "Direct"}
    assert enriched(referrer="nobody knows", path="/a").described is not None


OTHERS = {
    "https://news.example/post?token=S": "https://news.example/post",
    "HTTPS://News.example/post#S": "https://news.example/post",
    "https:\\\\news.example\\post?token=S": "https://news.example/post",
    " \thttps://news.example/po\nst?token=S": "https://news.example/post",
    "https://anna:S@news.example:8443/post": "https://news.example:8443/post",
    "https://anna%3AS@news.example/post": "https://news.example/post",
    "https://news.example/post%3Ftoken=S": "https://news.example/post",
    "https://news.example/post%253Ftoken%253DS": "https://news.example/post",
    "https://news.example/post%23S": "https://news.example/post",
    "https://news.example/post;jsessionid=S": "https://news.example/post",
    "//news.example/post?token=S": "news.example/post",
    "news.example/post?token=S": "news.example/post",
    "news.example:8080/post?token=S": "news.example:8080/post",
    "android-app://com.slack/https/x?token=S": "android-app://com.slack/https/x",
    "http://[2001:db8::1]:3000/post?token=S": "http://[2001:db8::1]:3000/post",
}
NONE = [
    "/account?email=S", "/reset?token=S", "?token=S", "#S", "account?token=S", "account.php?token=S", "./a?token=S",
    "https:///x?token=S", "https:/x?token=S", "http://[bad/?token=S", "http://?token=S", "https://anna%3AS%40x.example/",
    "file:///x?token=S", "about:blank", "about:client", "javascript:void(0)", "tel:+1555", "mailto:a@news.example",
    "data:text/html,S", "blob:https://news.example/S", "chrome-extension://abc/x?token=S", "ios-app://1234/x",
    "null", "undefined", "none", "NULL", "-", "(none)", "https://null/", "a@news.example", "anna:S@news.example/x",
    "https://shop.example/a?token=S", "//shop.example?token=S", "shop.example/a?token=S", "https://WWW.Shop.example.:8443/?S",
]  # fmt: skip


@pytest.mark.parametrize("referrer", [*OTHERS, *NONE])
def test_a_referrer_is_another_page_without_query_fragment_and_credentials(referrer: str):
    described = enriched(url="https://shop.example/", referrer=referrer).described or {}
    assert described.get("referrer") == OTHERS.get(referrer)
    assert ("source" in described, described["channel"] == "Direct") == (referrer in OTHERS, referrer not in OTHERS)


def test_a_step_that_fails_leaves_no_referrer_with_a_query(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(enriching, "STEPS", [step for step in STEPS if step is not enriching.put_source])
    assert "token" not in repr(enriched(referrer="https://news.example/?token=S", path="/"))


@pytest.mark.parametrize("name", ["source", "utm_source"])
def test_a_source_that_is_a_url_becomes_its_host(name: str):
    described = enriched(url="https://shop.example/", **{name: "https://www.google.com/search?token=S"}).described or {}
    assert described["source"] == "Google"
    assert "token" not in repr(described)
    assert "token" not in repr(enriched(url=f"https://shop.example/?{name}=https%3A%2F%2Fa.example%2F%3Ftoken=S"))


@pytest.mark.parametrize(
    "said",
    [
        {"url": "https://bücher.example/a"},
        {"url": "https://B%C3%BCcher.example:8443/a"},
        {"url": "https://xn--bcher-kva.example./a"},
        {"url": "/a", "hostname": "www.BÜCHER.example:8443"},
        {"url": "https://shop.example:8443/a"},
        {"path": "/a", "hostname": "shop.example.:8443"},
        {"path": "https://bücher.example/a?x=1"},
    ],
)
def test_the_domains_of_a_site_match_every_spelling_of_a_host(said: dict[str, str]):
    site = load_site("shop", {"domains": ["bücher.example", "shop.example"]})
    found = enriched(site, referrer="https://b%C3%BCcher.example/b", **said)
    assert (found.path, found.hostname in site.domains, found.described) == ("/a", True, {"channel": "Direct"})


def test_a_site_may_have_pages_without_their_last_slash():
    site = Site("shop", trailing_slash="drop", excluded_paths=("/admin",))
    assert (
        enriched(site, path="/pricing/").path
        == enriched(site, url="https://shop.example/pricing/?a").path
        == "/pricing"
    )
    assert dropped(site, path="/admin/") == "excluded_path"
    assert enriched(path="/pricing/").path == "/pricing/"


@pytest.mark.parametrize(
    ("path", "stored"),
    [
        ("/user/123", "/user/:id"),
        ("/user/123/", "/user/123/"),
        ("/user/settings", "/user/settings"),
        ("/USER/Ann?tab=Posts&x=1", "/user/:id?tab=Posts"),
        ("/order/7/items/a.b", "/order/:number/items/:item"),
        ("/order/7/more/a.b", "/order/7/more/a.b"),
        ("/app#/user/7", "/app#/user/:id"),
        ("/a:b/c", "/a:b/c"),
        ("/a:x/c", "/a:x/c"),
    ],
)
def test_a_site_may_have_pages_that_count_as_one(path: str, stored: str):
    rules = ["/user/settings", "/user/:id", "/order/:number/items/:item", "/app#/user/:id", "/a:b/c"]
    site = load_site("shop", {"path_rules": rules, "path_case": "lower", "allowed_parameters": ["tab"]})
    fragment = path.partition("#")[2]
    url = f"https://shop.example/app#{fragment}" if fragment else None
    assert enriched(site, path=path, url=url).path == stored
    assert enriched(path=path, url=url).path == path.partition("?")[0]
    assert site.rules_for_paths().apply(stored) == stored
    assert dropped(replace(site, excluded_paths=("/user/1*",)), path="/user/123") == "excluded_path"


@pytest.mark.parametrize(
    "path", ["/", "//", "/a/", "/a//", "/a/?b=/", "/App/#/", "/app/#/x/", "/app#!/x/?a=1/", "/é/#/ß/"]
)
def test_rules_for_stored_paths_give_what_an_event_gets(path: str):
    site = load_site("shop", {"trailing_slash": "drop", "path_case": "lower", "allowed_parameters": ["a", "b"]})
    kept = enriched(replace(site, trailing_slash="keep", path_case="keep"), url=f"https://shop.example{path}").path
    assert kept
    assert site.rules_for_paths().apply(kept) == enriched(site, url=f"https://shop.example{path}").path


@pytest.mark.parametrize("referrer", ["//", "https://[", "about:client", ":", "?", "https://", "null", "\x00"])
def test_an_invalid_referrer_causes_no_error(referrer: str):
    enriched(url="https://shop.example/", referrer=referrer)


def test_events_of_other_hostnames_are_dropped_if_the_site_has_domains():
    site = Site("shop", domains=("shop.example",))
    assert dropped(site, url="https://copy.example/") == "foreign_hostname"
    assert dropped(site, hostname="sub.shop.example") == "foreign_hostname"
    assert enriched(site, url="https://www.shop.example/").hostname == "shop.example"
    assert enriched(site, path="/of a server").hostname is None
    assert enriched(url="https://copy.example/").hostname == "copy.example"


def test_events_of_excluded_pages_are_dropped():
    site = Site("shop", excluded_paths=("/admin/**", "/draft/*"))
    assert dropped(site, path="/admin/users/1?x=1") == "excluded_path"
    assert dropped(site, url="https://shop.example/draft/7") == "excluded_path"
    assert enriched(site, path="/draft/7/more").path == "/draft/7/more"


def test_bots_are_dropped_and_an_empty_user_agent_is_not_a_bot():
    assert dropped(client=GOOGLEBOT, path="/") == "bot"
    crawler = Client(user_agent="Mozilla/5.0 (compatible; claudebot/1.0)")
    assert dropped(client=crawler, path="/") == "ai_crawler:ClaudeBot"
    assert enriched(client=Client(address="192.0.2.1"), path="/").path == "/"
    assert enriched(client=Client(user_agent="curl/8.5.0"), path="/").described == {
        "browser": "curl", "browser_version": "8.5"
    }  # fmt: skip


def test_visitors_of_spam_are_dropped(tmp_path: Path):
    assert dropped(referrer="https://www.semalt.com/project?u=x") == "spam_referrer"
    assert dropped(referrer="http://shop.semalt.com") == "spam_referrer"
    assert enriched(referrer="https://notsemalt.com/").described is not None
    more = tmp_path / "spammers.txt"
    more.write_text("# of ours\nspam.example\nWWW.Other.Example\n\n")
    lookups = Lookups(spam=SpamReferrers(str(more)))
    assert dropped(lookups=lookups, referrer="https://a.spam.example/") == "spam_referrer"
    assert dropped(lookups=lookups, referrer="https://other.example/") == "spam_referrer"
    assert dropped(lookups=lookups, referrer="https://semalt.com/") == "spam_referrer"
    missing = Lookups(spam=SpamReferrers(str(tmp_path / "missing")))
    assert enriched(lookups=missing, referrer="https://spam.example/").described is not None


def test_a_place_comes_from_the_cdn_or_else_from_the_file(tmp_path: Path):
    file = write(tmp_path / "city.mmdb", {"192.0.2.0/24": GEOLITE, "198.51.100.0/24": DBIP})
    lookups = Lookups(Places(str(file)))

    def place(address: str, said: tuple[tuple[str, str], ...] = (), **body: Any) -> tuple[str | None, ...]:
        described = enriched(client=Client(address=address, place=said), lookups=lookups, **body).described or {}
        return tuple(described.get(name) for name in ("country", "region", "city"))

    assert place("192.0.2.1") == ("US", "US-CA", "San Jose")
    assert place("192.0.2.1", (("country", "US"),)) == ("US", "US-CA", "San Jose")
    assert place("192.0.2.1", (("country", "US"), ("region", "NV"))) == ("US", "US-NV", None)
    assert place("192.0.2.1", (("country", "DE"),)) == ("DE", None, None)
    assert place("192.0.2.1", country="US") == ("US", "US-CA", "San Jose")
    assert place("192.0.2.1", country="FR") == ("FR", None, None)
    assert place("192.0.2.1", city="Nice") == (None, None, "Nice")
    assert place("10.0.0.1") == (None, None, None)
    assert place("") == (None, None, None)


@pytest.mark.parametrize(
    ("languages", "language"),
    [
        ("de", "de"), ("en-us,en;q=0.9", "en-US"), ("zh-hant-tw", "zh-Hant-TW"), ("sr-Latn", "sr-Latn"),
        ("es-419;q=0.8", "es-419"), ("sl-rozaj-biske", "sl-rozaj-biske"), ("*", None), ("", None), ("x" * 50, None),
        ("en_US", None), ("; DROP", None),
    ],
)  # fmt: skip
def test_the_first_language_is_named_as_bcp_47_does(languages: str, language: str | None):
    assert language_of(languages) == language
    assert (enriched(client=Client(languages=languages)).described or {}).get("language") == language


@pytest.mark.parametrize(
    ("screen", "name"),
    [
        ("390x844", "Mobile"), ("575", "Mobile"), ("576", "Tablet"), ("991x1", "Tablet"), ("992", "Laptop"),
        ("1439x900", "Laptop"), ("1440x900", "Desktop"), ("3840x2160", "Desktop"), ("Laptop", "Laptop"), ("x", "x"),
    ],
)  # fmt: skip
def test_a_screen_is_kept_as_a_class(screen: str, name: str):
    assert screen_of(screen) == name
    assert enriched(screen=screen).described == {"screen": name}


def test_a_step_that_fails_is_left_out_counted_and_logged_once(monkeypatch: pytest.MonkeyPatch):
    def put_trouble(draft: Draft) -> None:
        raise KeyError(draft.client.user_agent)

    monkeypatch.setattr(enriching, "STEPS", (put_trouble, *STEPS))
    with capture_logs() as logs:
        found = [enriched(client=CHROME, url="https://shop.example/a") for _ in range(3)]
    assert {(each.path, (each.described or {})["browser"]) for each in found} == {("/a", "Chrome")}
    (line,) = logs
    assert (line["event"], line["step"], line["error"]) == ("enrichment_failed", "put_trouble", "KeyError")
    assert "Mozilla" not in str(line)


def test_exceptions_that_are_not_errors_of_a_step_are_not_caught(monkeypatch: pytest.MonkeyPatch):
    class TimeLimit(Exception):  # like Celery's
        pass

    def put_for_ever(draft: Draft) -> None:
        raise TimeLimit

    monkeypatch.setattr(enriching, "STEPS", (put_for_ever,))
    with pytest.raises(TimeLimit):
        enriched()


ANYTHING = st.text(max_size=60)


@given(
    url=st.one_of(ANYTHING, ANYTHING.map(lambda text: f"https://shop.example/{text}")),
    referrer=st.one_of(ANYTHING, ANYTHING.map(lambda text: f"https://{text}")),
    user_agent=st.text(alphabet=st.characters(), max_size=60),
    languages=ANYTHING,
    place=st.tuples(ANYTHING, ANYTHING),
)
def test_any_input_is_stored_as_valid_text(
    url: str, referrer: str, user_agent: str, languages: str, place: tuple[str, str]
):
    client = Client("", user_agent, languages, (("country", "DE"), ("region", place[0]), ("city", place[1])))
    given = structs.replace(event(), url=url, described={"referrer": referrer} if referrer else None)
    with capture_logs() as logs:
        found = enrich(given, client, SITE, Lookups())
    assert logs == []
    if isinstance(found, Event):
        assert (
            load_event(
                {"site_id": "shop", "event_type": "pageview", "path": found.path} | dict(found.described or {}), NOW
            ).described
            == found.described
        )
        assert found == enrich(given, client, SITE, Lookups())
