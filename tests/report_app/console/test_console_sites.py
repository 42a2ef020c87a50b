"""Sites in the console: added, changed, given a new write key, removed."""

import re
from html import unescape

import pytest

from analytics.segments.builder import apply_path_rules
from analytics.sites.site import Goal, Site
from analytics.sites.store import SiteStore
from config.services import Services
from tests.support.accounts import Browser, errors_in, path_of


def test_an_owner_without_a_site_is_asked_for_one(owner: Browser, real: Services):
    html = {"Accept": "text/html"}
    assert path_of(owner.get("/", headers=html)) == "/ops/sites/new"
    real.sites.put(Site("shop"))
    assert owner.get("/", headers=html).status_code == 200


def test_a_site_is_added_and_waits_for_its_first_event(owner: Browser, real: Services):
    added = owner.post("/ops/sites/new", site_id="shop", domain="shop.example", timezone="Europe/Berlin")
    assert path_of(added) == "/site/shop"
    site = real.sites.get("shop")
    assert (site.domains, site.zone.key) == (("shop.example",), "Europe/Berlin")
    assert 'data-site="shop"' in owner.get("/site/shop").text.replace("&#34;", '"')
    assert "shop.example" in owner.get("/ops/sites").text
    assert "/ops/sites/new" in owner.get("/", headers={"Accept": "text/html"}).text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"site_id": ""}, "Length must be between 1 and 128."),
        ({"timezone": "Mars"}, "Not an IANA time zone such as Europe/Berlin."),
        ({"domain": "http://shop"}, "Not a domain such as shop.example."),
        ({"site_id": "taken"}, "Another site has this name or domain."),
        ({"domain": "taken.example"}, "taken.example belongs to the site 'taken'."),
    ],
)
def test_a_field_that_is_wrong_is_named_and_keeps_what_was_written(
    owner: Browser, real: Services, fields: dict[str, str], said: str
):
    real.sites.put(Site("taken", domains=("taken.example",)))
    sent = {"site_id": "shop", "domain": "shop.example", "timezone": "UTC"} | fields
    refused = owner.post("/ops/sites/new", **sent)
    assert refused.status_code == 400
    assert said in " ".join(errors_in(refused.text))
    assert all(f'value="{value}"' in refused.text for value in sent.values())
    assert [site.site_id for site in real.sites.all()] == ["taken"]


def test_the_form_has_what_another_process_has_stored_a_moment_ago(owner: Browser, real: Services, database):
    real.sites.put(Site("shop", domains=("old.example",)))
    assert real.sites.get("shop").domains == ("old.example",)
    SiteStore(database).put(Site("shop", domains=("new.example",)))
    assert "new.example" in owner.get("/ops/site/shop").text


def test_settings_are_shown_and_changed(owner: Browser, real: Services):
    real.sites.put(Site("shop/de", goals=(Goal("Sign-up", "signup"),), retention_days=400, honours_dnt=True))
    page = "/ops/site/shop/de"
    shown = owner.get(page).text
    assert 'data-site="shop/de"' in shown.replace("&#34;", '"')
    assert "signup" in shown
    fields = {"domains": "shop.example\nwww.shop.test\n", "timezone": "", "goal_kind": "page", "goal_match": "/pricing",
              "backdate_days": "7", "shows_visitors": "on"}  # fmt: skip
    assert path_of(owner.post(page, **fields)) == page
    site = real.sites.get("shop/de")
    assert site.domains == ("shop.example", "shop.test")
    assert [goal.page for goal in site.goals] == ["/pricing"]
    assert (site.backdate_days, site.shows_visitors, site.honours_dnt, site.retention_days) == (7, True, False, None)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("retention_days", "many", "Not a valid integer."),
        ("excluded_ips", "home", "Not an address such as"),
        ("trailing_slash", "maybe", "Must be one of"),
        ("path_rules", "user/:id", "Not a path such as /user/:id."),
        ("script_path", "kit/k.js", "Not a path such as /kit/k.js"),
        ("endpoint_path", "/js/k", "Footfall itself uses paths that begin like this."),
    ],
)
def test_a_setting_that_is_wrong_is_named_and_changes_nothing(
    owner: Browser, real: Services, name: str, value: str, said: str
):
    before = real.sites.put(Site("shop"))
    refused = owner.post("/ops/site/shop", **{name: value})
    assert refused.status_code == 400
    assert said in " ".join(errors_in(refused.text))
    assert real.sites.get("shop") == before


PAGE, EVENT = "page", "event_type"


def rows(*several: tuple[str, str, str, str]) -> dict[str, list[str]]:
    """The fields of the form for goals of these kinds, matches, names and currencies."""
    names = ("goal_kind", "goal_match", "goal_name", "goal_currency")
    return dict(zip(names, map(list, zip(*several, strict=True)), strict=True))


def shown_rows(page: str) -> list[tuple[str, str, str, str]]:
    """The goals that the form shows."""
    kinds = [
        EVENT if "selected" in options else PAGE
        for options in re.findall('<select name="goal_kind">(.*?)</select>', page)
    ]
    texts = [re.findall(f'name="goal_{name}" value="([^"]*)"', page) for name in ("match", "name", "currency")]
    return list(zip(kinds, *texts, strict=True))


def test_goals_are_rows_and_sent_back_unchanged_keep_their_names(owner: Browser, real: Services):
    goals = (
        Goal("signup", "signup"),
        Goal("Visit /docs/**", page="/docs/**"),
        Goal("Paid", "purchase", currency="EUR"),
    )
    real.sites.put(Site("shop", goals=goals))
    shown = shown_rows(owner.get("/ops/site/shop").text)
    assert shown == [(EVENT, "signup", "", ""), (PAGE, "/docs/**", "", ""), (EVENT, "purchase", "Paid", "EUR")]
    owner.post("/ops/site/shop", **rows(*shown, (PAGE, " ", "", "")))
    assert real.sites.get("shop").goals == goals
    owner.post("/ops/site/shop", **rows((PAGE, "/thanks", "Bought", "usd")))
    assert real.sites.get("shop").goals == (Goal("Bought", page="/thanks", currency="USD"),)
    owner.post("/ops/site/shop")
    assert real.sites.get("shop").goals == ()


def test_rows_of_goals_are_added_and_removed_without_saving(owner: Browser, real: Services):
    before = real.sites.put(Site("shop", goals=(Goal("signup", "signup"),)))
    written = [(EVENT, "signup", "", ""), (PAGE, "/<b>&", "Thanks", "")]
    added = owner.post("/ops/site/shop", domains="not saved", goal_rows="add", **rows(*written))
    assert added.status_code == 200
    assert [unescape(match) for _, match, _, _ in shown_rows(added.text)] == ["signup", "/<b>&", ""]
    assert re.search('name="goal_match" value=""[^>]* autofocus', added.text)
    assert "not saved" in added.text
    removed = owner.post("/ops/site/shop", goal_rows="0", **rows(*written, (PAGE, "", "", "")))
    assert [match for _, match, _, _ in shown_rows(removed.text)] == ["/&lt;b&gt;&amp;", ""]
    assert len(shown_rows(owner.post("/ops/site/shop", goal_rows="7", **rows(*written)).text)) == 2
    assert real.sites.get("shop") == before


@pytest.mark.parametrize(
    ("wrong", "field", "said"),
    [
        ((PAGE, "", "Thanks", ""), "goal-1-match", "Write a page such as /docs/** or the name of an event."),
        ((EVENT, "x" * 129, "", ""), "goal-1-match", "Length must be between 1 and 128."),
        ((PAGE, "/", "x" * 3000, ""), "goal-1-name", "Length must be between 1 and 2054."),
        ((PAGE, "/", "", "euros"), "goal-1-currency", "Not a code such as USD."),
        ((EVENT, "signup", "", ""), "goals", "Two goals have the name 'signup'."),
    ],
)
def test_a_goal_that_is_wrong_is_named_at_its_field(
    owner: Browser, real: Services, wrong: tuple[str, str, str, str], field: str, said: str
):
    before = real.sites.put(Site("shop"))
    sent = [(EVENT, "signup", "", ""), wrong]
    refused = owner.post("/ops/site/shop", **rows((PAGE, "", "", ""), *sent))
    assert refused.status_code == 400
    assert f'id="{field}-error" role="alert">{said}<' in unescape(refused.text)
    assert re.search(f'aria-describedby="[^"]*{field}-error"', refused.text)
    assert shown_rows(refused.text) == sent
    assert real.sites.get("shop") == before


def test_new_rules_for_paths_say_that_reports_use_those_that_were_applied(owner: Browser, real: Services):
    site, page, said = (
        real.sites.put(Site("shop", path_rules=("/user/:id",))),
        "/ops/site/shop",
        "Reports use the rules",
    )
    owner.post(page, path_rules="/user/:id")
    assert said not in owner.get(page).text
    apply_path_rules(real.segments.builder, site, [])
    owner.post(page, path_rules="/user/:id")
    assert said not in owner.get(page).text
    owner.post(page, path_rules="/user/settings\n/user/:id")
    assert said in owner.get(page).text


def test_the_snippet_has_the_paths_of_the_site(owner: Browser, real: Services):
    real.sites.put(Site("shop", script_path="/kit/k.js"))
    page = owner.get("/ops/site/shop").text
    assert re.search('src="[^"]+[0-9]/kit/k.js" data-site="shop" data-endpoint="[^"]+[0-9]/events"&gt;', page)
    assert owner.post("/ops/site/shop", script_path="/kit/k.js", endpoint_path="/kit/k").status_code == 303
    assert re.search('/kit/k.js" data-site="shop" data-endpoint="[^"]+[0-9]/kit/k"&gt;', owner.get("/site/shop").text)


def test_a_write_key_is_replaced_and_settings_are_removed(owner: Browser, real: Services):
    key = real.sites.put(Site("shop")).write_key
    assert path_of(owner.post("/ops/rotate-write-key/shop", page="/ops/site/shop")) == "/ops/site/shop"
    shown = re.search("Write key: <code>([^<]*)</code>", owner.get("/ops/site/shop").text)
    assert shown
    assert shown[1] != key
    assert "Remove the settings of shop?" in owner.get("/ops/remove-site/shop").text
    assert path_of(owner.post("/ops/remove-site/shop")) == "/ops/sites"
    assert real.sites.all() == []
    assert owner.get("/ops/site/shop").status_code == 404
    assert owner.post("/ops/site/shop", page="/ops/sites/new", timezone="UTC").status_code == 404
    assert real.sites.all() == []
    assert owner.get(f"/ops/site/{'x' * 200}").status_code in (400, 404)
