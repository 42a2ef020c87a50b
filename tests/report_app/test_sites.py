"""The settings of a site: what is accepted, what is refused, and that a report uses the latest ones."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from ipaddress import ip_address
from pathlib import Path
from threading import Barrier
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from pymongo import MongoClient
from pymongo.database import Database

from analytics.sites.schema import InvalidSite, SiteSchema, dump_site, load_changes, load_site
from analytics.sites.site import Goal, Site
from analytics.sites.store import MOST_REMEMBERED, REMEMBERED, SiteStore
from analytics.unavailable import Unavailable
from footfall.embedded_servers import pick_port
from tests.support.services import ADMIN_KEY, Clock

HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
KEY = "0b0e1c9e-5a57-4b6f-9c55-2f2b8e7c1a11"
SETTINGS = {
    "timezone": "Europe/Berlin",
    "goals": [{"name": "Signed up", "event_type": "signup"}, {"page": "/thanks/*", "currency": "EUR"}],
    "shows_visitors": True,
    "write_key": KEY,
}
SITE = Site(
    "shop",
    ZoneInfo("Europe/Berlin"),
    (Goal("Signed up", event_type="signup"), Goal("Visit /thanks/*", page="/thanks/*", currency="EUR")),
    shows_visitors=True,
    write_key=KEY,
)
UNSET = {
    "timezone": "UTC", "goals": [], "shows_visitors": False, "domains": [], "allowed_origins": [], "write_key": None,
    "honours_dnt": False, "excluded_ips": [], "excluded_paths": [], "allowed_parameters": [], "backdate_days": 30,
    "retention_days": None, "trailing_slash": "keep", "path_case": "keep", "path_rules": [], "max_event_bytes": 8192,
    "saved_filters": [], "assigns_visits": False, "script_path": None, "endpoint_path": None,
}  # fmt: skip


def dumped(site: Site) -> dict[str, Any]:
    """The settings as JSON."""
    return json.loads(json.dumps(dump_site(site)))


def settings_of(report: FlaskClient) -> dict[str, Any]:
    """The settings as GET answers them."""
    answer: dict[str, Any] = report.get("/admin/sites/shop", headers=HEADERS).json
    return {name: value for name, value in answer.items() if name != "last_event_received"}


def faults(**settings: object) -> dict[str, list[str]]:
    with pytest.raises(InvalidSite) as caught:
        load_site("shop", settings)
    return caught.value.fields


def test_settings_are_read_and_written():
    assert load_site("shop", SETTINGS) == SITE
    assert load_site("shop", dumped(SITE)) == SITE


def test_settings_for_the_collector_are_read_and_written():
    given = {
        "domains": ["WWW.Shop.example.", "müller.example", "shop.example"],
        "allowed_origins": ["https://Shop.example/", "http://localhost:8080", "https://shop.example:443"],
        "write_key": KEY.upper(),
        "honours_dnt": True,
        "excluded_ips": ["192.0.2.7", "192.0.2.0/24", "2001:DB8::/32", "::1"],
        "excluded_paths": ["/admin/**"],
        "allowed_parameters": ["id"],
        "backdate_days": 0,
        "retention_days": 90,
    }
    site = load_site("shop", given)
    assert site.domains == ("shop.example", "xn--mller-kva.example")
    assert site.allowed_origins == ("https://shop.example", "http://localhost:8080")
    assert (site.write_key, site.honours_dnt, site.backdate_days, site.retention_days) == (KEY, True, 0, 90)
    assert ip_address("192.0.2.99") in site.excluded_ips[1]
    assert dumped(site)["excluded_ips"] == ["192.0.2.7", "192.0.2.0/24", "2001:db8::/32", "::1"]
    assert load_site("shop", dumped(site)) == site


def test_a_goal_without_a_name_gets_one():
    goals = load_site("shop", {"goals": [{"event_type": "signup"}, {"page": "/**", "name": ""}]}).goals
    assert [goal.name for goal in goals] == ["signup", "Visit /**"]


@pytest.mark.parametrize("nothing", [{}, dict.fromkeys(UNSET), dict.fromkeys(UNSET, ""), UNSET])
def test_an_omitted_setting_has_its_default(nothing: dict[str, object]):
    assert load_site("shop", nothing) == Site("shop")


def test_the_longest_page_and_its_name_can_be_written_as_they_were_read():
    site = load_site("s" * 128, {"goals": [{"page": "/" * 2048}]})
    assert load_site(site.site_id, dumped(site)) == site


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        *[
            ({"timezone": bad}, "timezone")
            for bad in ("Berlin", "europe/berlin", "localtime", "../UTC", "+01:00", 1, [])
        ],
        *[({"shows_visitors": bad}, "shows_visitors") for bad in ("yes", 2, [])],
        ({"time_zone": "UTC"}, "time_zone"),
        ({"site_id": "other"}, "site_id"),
        *[
            ({"domains": [bad]}, "domains.0")
            for bad in (
                "",
                "https://shop.example",
                "shop.example/",
                "shop.example:80",
                "a b",
                "-a",
                "a..b",
                "x" * 64,
                1,
            )
        ],
        *[
            ({"allowed_origins": ["http://a", bad]}, "allowed_origins.1")
            for bad in (
                "shop.example",
                "ftp://a",
                "https://a/b",
                "https://u@a",
                "https://",
                "null",
                "*",
                "http://a:x",
                "",
            )
        ],
        *[({"excluded_ips": [bad]}, "excluded_ips.0") for bad in ("10.0.0.1/8", "10.0.0", "a", "::/129", "", 1)],
        *[({"write_key": bad}, "write_key") for bad in ("key", 1, [])],
        *[({"backdate_days": bad}, "backdate_days") for bad in (-1, 36_501, 1.5, True, "many")],
        *[({"retention_days": bad}, "retention_days") for bad in (0, -1, 36_501, 1.5, True)],
        *[({name: [""]}, f"{name}.0") for name in ("excluded_paths", "allowed_parameters")],
        *[({name: ["/"] * 101}, name) for name in ("excluded_paths", "allowed_parameters")],
        ({"honours_dnt": 2}, "honours_dnt"),
        ({"domains": "shop.example"}, "domains"),
        ({"goals": {}}, "goals"),
        ({"goals": ["signup"]}, "goals.0"),
        ({"goals": [{"page": "/"}, {}]}, "goals.1"),
        ({"goals": [{"name": "neither"}]}, "goals.0"),
        ({"goals": [{"event_type": "", "page": None}]}, "goals.0"),
        ({"goals": [{"event_type": "a", "page": "/"}]}, "goals.0"),
        ({"goals": [{"event": "a"}]}, "goals.0.event"),
        ({"goals": [{"event_type": 1}]}, "goals.0.event_type"),
        ({"goals": [{"event_type": "x" * 129}]}, "goals.0.event_type"),
        ({"goals": [{"page": "x" * 2049}]}, "goals.0.page"),
        ({"goals": [{"page": "/", "currency": "euro"}]}, "goals.0.currency"),
        ({"goals": [{"page": "/", "name": "\ud800"}]}, "goals.0.name"),
        ({"goals": [{"page": "/"}, {"event_type": "a", "name": "Visit /"}]}, "goals"),
        ({"goals": [{"event_type": f"{n}"} for n in range(101)]}, "goals"),
    ],
)
def test_invalid_settings_are_refused_and_their_fields_are_named(settings: dict[str, object], field: str):
    assert field in faults(**settings)


def test_a_site_may_have_a_hundred_goals():
    assert len(load_site("shop", {"goals": [{"event_type": f"{n}"} for n in range(100)]}).goals) == 100


@pytest.mark.parametrize("site_id", ["", "x" * 129])
def test_a_site_id_follows_the_same_rules_as_in_events(site_id: str):
    with pytest.raises(InvalidSite) as caught:
        load_site(site_id, {})
    assert list(caught.value.fields) == ["site_id"]


@pytest.mark.parametrize("body", [None, [], "text", 3])
def test_settings_must_be_an_object(body: object):
    with pytest.raises(InvalidSite) as caught:
        load_site("shop", body)
    assert caught.value.fields == {"body": ["Not a JSON object."]}


@pytest.fixture
def sites(database: Database[dict[str, Any]], clock: Clock) -> SiteStore:
    return SiteStore(database, clock)


def test_a_site_without_settings_has_the_defaults(sites: SiteStore):
    assert sites.get("shop") == Site("shop")
    assert list(sites.list()) == []


def test_new_settings_replace_the_old_ones_at_once(sites: SiteStore, database: Database):
    assert sites.get("shop") == Site("shop")
    sites.put(SITE)
    assert sites.get("shop") == SITE
    sites.put(replace(SITE, goals=()))
    assert sites.get("shop") == replace(SITE, goals=())
    assert SiteStore(database).get("shop") == replace(SITE, goals=())


def test_removed_settings_are_as_if_never_set(sites: SiteStore):
    sites.put(SITE)
    assert sites.get("shop") == SITE
    assert sites.remove("shop") is True
    assert sites.get("shop") == Site("shop")
    assert sites.remove("shop") is False


def test_settings_of_another_process_are_seen_after_a_few_seconds(sites: SiteStore, database: Database, clock: Clock):
    assert sites.get("shop") == Site("shop")
    SiteStore(database).put(SITE)
    clock.now += REMEMBERED - 0.1
    assert sites.get("shop") == Site("shop")
    clock.now += 0.1
    assert sites.get("shop") == SITE


def test_a_site_can_be_read_again_once_a_second_and_no_other_site_is(
    sites: SiteStore, database: Database, clock: Clock
):
    def seen(site: Site) -> bool:
        SiteStore(database).put(site)
        sites.read_again("shop")
        return sites.get("shop") == site

    assert [sites.get("shop"), sites.get("other")] == [Site("shop"), Site("other")]
    SiteStore(database).put(Site("other", write_key="other", retention_days=1))
    assert seen(SITE)
    assert not seen(replace(SITE, goals=()))
    clock.now += 1
    assert seen(replace(SITE, goals=()))
    assert sites.get("other") == Site("other")


def test_a_look_up_that_a_change_overtakes_does_not_hide_the_change(sites: SiteStore, monkeypatch: pytest.MonkeyPatch):
    find = sites._find

    def find_and_be_overtaken(field: str, value: str) -> Site | None:
        found = find(field, value)
        sites.put(SITE)
        return found

    monkeypatch.setattr(sites, "_find", find_and_be_overtaken)
    assert sites.get("shop") == Site("shop")
    monkeypatch.undo()
    assert sites.get("shop") == SITE


def test_several_sites_are_read_with_one_query_and_remembered(sites: SiteStore, database: Database, clock: Clock):
    def queries() -> int:
        totals = database.client.admin.command("top")["totals"]
        return int(totals[f"{database.name}.sites"]["queries"]["count"])

    SiteStore(database).put(SITE)
    SiteStore(database).put(other := Site("other", write_key="other", retention_days=1))
    expected, before = {"shop": SITE, "other": other, "new": Site("new")}, queries()
    for _ in range(2):
        assert sites.get_all(expected) == expected
        assert [sites.get(site_id) for site_id in expected] == [*expected.values()]
    assert queries() - before == 1
    SiteStore(database).put(changed := replace(SITE, goals=()))
    assert sites.get_all(["shop"]) == {"shop": SITE}
    clock.now += REMEMBERED
    assert sites.get_all(["shop"]) == {"shop": changed}


def test_made_up_names_do_not_fill_the_memory(sites: SiteStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sites, "_find", lambda *_: None)
    for n in range(MOST_REMEMBERED + 10):
        sites.get(f"{n}")
        sites.find(f"{n}")
    assert len(sites._remembered) <= MOST_REMEMBERED


@pytest.mark.usefixtures("usual_limits")
def test_an_unreachable_mongodb_is_unavailable():
    nobody: MongoClient[dict[str, Any]] = MongoClient(
        f"mongodb://127.0.0.1:{pick_port(0)}", serverSelectionTimeoutMS=100
    )
    sites = SiteStore(nobody["footfall"])
    for ask in (lambda: sites.get("shop"), lambda: sites.put(SITE), lambda: sites.remove("shop"), sites.list):
        with pytest.raises(Unavailable):
            ask()
    nobody.close()


def test_over_http_settings_are_put_shown_and_removed(report: FlaskClient, database: Database):
    assert settings_of(report) == {"site_id": "shop"} | UNSET
    put = report.put("/admin/sites/shop", headers=HEADERS, json=SETTINGS)
    assert put.status_code == 200
    assert put.json == dumped(SITE)
    assert settings_of(report) == put.json
    assert report.put("/admin/sites/shop", headers=HEADERS, json=put.json).json == put.json
    kept = {"site_id": "shop"} | UNSET | {"write_key": KEY}
    assert report.put("/admin/sites/shop", headers=HEADERS, json={}).json == kept
    assert report.delete("/admin/sites/shop", headers=HEADERS).json == {"success": True, "removed": 1}
    assert report.delete("/admin/sites/shop", headers=HEADERS).json == {"success": True, "removed": 0}


def test_sites_are_listed_page_by_page(report: FlaskClient, database: Database):
    for site_id in "cabd":
        put = report.put(f"/admin/sites/{site_id}", headers=HEADERS, json=SETTINGS | {"write_key": None})
        assert UUID(put.json["write_key"])
    first = report.get("/admin/sites?limit=3", headers=HEADERS).json
    assert [site["site_id"] for site in first["sites"]] == ["a", "b", "c"]
    assert first["sites"][0] == dumped(replace(SITE, site_id="a")) | {"write_key": first["sites"][0]["write_key"]}
    assert len({site["write_key"] for site in first["sites"]}) == 3
    second = report.get(f"/admin/sites?limit=3&after={first['after']}", headers=HEADERS).json
    assert [site["site_id"] for site in second["sites"]] == ["d"]
    assert second["after"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "page=2", "after=" + "x" * 129])
def test_an_invalid_query_of_the_list_is_a_400(report: FlaskClient, query: str):
    answer = report.get(f"/admin/sites?{query}", headers=HEADERS)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_query")


def test_refused_settings_change_nothing(report: FlaskClient, database: Database):
    report.put("/admin/sites/shop", headers=HEADERS, json=SETTINGS)
    answer = report.put("/admin/sites/shop", headers=HEADERS, json={"timezone": "Berlin", "goals": [{}]})
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_site")
    assert set(answer.json["error"]["fields"]) == {"timezone", "goals.0"}
    for body in (b"", b"{"):
        broken = report.put("/admin/sites/shop", headers=HEADERS, data=body)
        assert (broken.status_code, broken.json["error"]["code"]) == (400, "not_json")
    assert settings_of(report) == dumped(SITE)


def test_a_patch_changes_what_it_names_and_null_unsets(report: FlaskClient, database: Database):
    report.put("/admin/sites/shop", headers=HEADERS, json=SETTINGS)
    patched = report.patch("/admin/sites/shop", headers=HEADERS, json={"honours_dnt": True, "timezone": None})
    assert patched.status_code == 200
    assert patched.json == dumped(replace(SITE, honours_dnt=True, zone=ZoneInfo("UTC")))
    assert settings_of(report) == patched.json
    for nothing in ({}, {"write_key": None}, {"site_id": "shop"}):
        assert report.patch("/admin/sites/shop", headers=HEADERS, json=nothing).json == patched.json
    rest = {"goals": [], "shows_visitors": "", "domains": ["a.example"]}
    changed = report.patch("/admin/sites/shop", headers=HEADERS, json=rest).json
    assert changed == patched.json | {"goals": [], "shows_visitors": False, "domains": ["a.example"]}


def test_a_patch_of_a_site_without_settings_sets_all_others_to_their_defaults(report: FlaskClient, database: Database):
    made = report.patch("/admin/sites/shop", headers=HEADERS, json={"retention_days": 90}).json
    assert UUID(made["write_key"])
    assert made == {"site_id": "shop"} | UNSET | {"retention_days": 90, "write_key": made["write_key"]}
    database["sites"].replace_one({}, {"_id": "shop", "timezone": "UTC", "goals": [], "of_a_newer_one": 1})
    report.patch("/admin/sites/shop", headers=HEADERS, json={"retention_days": 91})
    assert database["sites"].find_one({}, {"of_a_newer_one": 1, "retention_days": 1, "_id": 0}) == {
        "of_a_newer_one": 1,
        "retention_days": 91,
    }


def test_a_refused_patch_changes_nothing_and_names_the_setting(report: FlaskClient, database: Database):
    report.put("/admin/sites/other", headers=HEADERS, json={"domains": ["taken.example"]})
    report.put("/admin/sites/shop", headers=HEADERS, json=SETTINGS)
    for wrong in ({"timezone": "Berlin"}, {"domains": ["taken.example"]}, {"site_id": "other"}, {"goals": [{}]}):
        refused = report.patch("/admin/sites/shop", headers=HEADERS, json={"honours_dnt": True} | wrong)
        assert (refused.status_code, refused.json["error"]["code"]) == (400, "invalid_site")
        assert {name.partition(".")[0] for name in refused.json["error"]["fields"]} == set(wrong)
    assert report.patch("/admin/sites/shop", headers=HEADERS, data=b"[]").status_code == 400
    assert settings_of(report) == dumped(SITE)


def test_changes_of_different_settings_at_the_same_time_all_hold(database: Database):
    changes = {"honours_dnt": True, "shows_visitors": True, "backdate_days": 3, "retention_days": 90,
               "domains": ["a.example"], "excluded_paths": ["/x"], "allowed_parameters": ["id"],
               "allowed_origins": ["https://a.example"]}  # fmt: skip
    for turn in range(10):
        stores = [SiteStore(database) for _ in changes]  # one per process
        start = Barrier(len(changes))

        def change(store: SiteStore, name: str, site: str = f"shop-{turn}", start: Barrier = start) -> None:
            settings = {name: changes[name]} if name != "domains" else {name: [f"{site}.example"]}
            start.wait()
            store.change(*load_changes(site, settings))

        with ThreadPoolExecutor(len(changes)) as pool:
            list(pool.map(change, stores, changes))
        kept = dumped(SiteStore(database).get(f"shop-{turn}"))
        assert {name: kept[name] for name in changes} == changes | {"domains": [f"shop-{turn}.example"]}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"time_zone": "UTC"}, {"time_zone": ["Unknown field. Did you mean 'timezone'?"]}),
        ({"domain": ["a.example"]}, {"domain": ["Unknown field. Did you mean 'domains'?"]}),
        ({"retentionDays": 9}, {"retentionDays": ["Unknown field. Did you mean 'retention_days'?"]}),
        ({"colour": "red"}, {"colour": ["Unknown field."]}),
        (
            {"goals": [{"event-type": "a", "event_type": "a"}]},
            {"goals.0.event-type": ["Unknown field. Did you mean 'event_type'?"]},
        ),
    ],
)
def test_an_unknown_setting_suggests_the_closest_one(
    report: FlaskClient, database: Database, method: str, wrong: dict[str, Any], said: dict[str, list[str]]
):
    answer = report.open("/admin/sites/shop", method=method, headers=HEADERS, json=wrong)
    assert (answer.status_code, answer.json["error"]["fields"]) == (400, said)


@pytest.mark.parametrize("site_id", ["a/b", "a//b", "ü", "a b", "count", "a/", "shop/rotate-write-key"])
def test_a_site_id_may_contain_any_character(report: FlaskClient, database: Database, site_id: str):
    report.put(f"/admin/sites/{site_id}", headers=HEADERS, json=SETTINGS)
    assert [site["site_id"] for site in report.get("/admin/sites", headers=HEADERS).json["sites"]] == [site_id]


def test_a_site_id_is_no_longer_than_in_events(report: FlaskClient):
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        answer = report.open("/admin/sites/" + "x" * 129, method=method, headers=HEADERS, json={})
        assert (answer.status_code, answer.json["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("value", [0, 1, 1.0, "true"])
def test_a_switch_is_true_or_false_and_nothing_else(report: FlaskClient, database: Database, value: object):
    answer = report.put("/admin/sites/shop", headers=HEADERS, json={"shows_visitors": value})
    assert list(answer.json["error"]["fields"]) == ["shows_visitors"]


def test_an_empty_path_segment_does_not_reach_a_site(report: FlaskClient, database: Database):
    assert report.put("/admin/sites//shop", headers=HEADERS, json=SETTINGS).status_code in (404, 405)
    assert report.get("/admin/sites", headers=HEADERS).json["sites"] == []


def test_a_write_key_is_made_once_kept_and_rotated(report: FlaskClient, database: Database):
    keys = [report.put("/admin/sites/shop", headers=HEADERS, json={}).json["write_key"] for _ in range(2)]
    assert keys[0] == keys[1]
    assert UUID(keys[0])
    rotated = report.post("/admin/write-keys/shop", headers=HEADERS)
    assert rotated.status_code == 200
    assert rotated.json["write_key"] not in keys
    assert settings_of(report) == rotated.json
    nothing = report.post("/admin/write-keys/other", headers=HEADERS)
    assert (nothing.status_code, nothing.json["error"]["code"]) == (404, "not_found")


def test_a_domain_or_a_write_key_of_another_site_is_refused_and_named(report: FlaskClient, database: Database):
    taken = {"domains": ["a.example", "shop.example"], "write_key": KEY}
    assert report.put("/admin/sites/shop", headers=HEADERS, json=taken).status_code == 200
    for field, value, named in (
        ("domains", ["b.example", "www.shop.example"], "shop.example"),
        ("write_key", KEY, KEY),
    ):
        answer = report.put("/admin/sites/other", headers=HEADERS, json={field: value})
        assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_site")
        assert answer.json["error"]["fields"] == {field: [f"{named} belongs to the site 'shop'."]}
    assert report.put("/admin/sites/shop", headers=HEADERS, json=taken).status_code == 200
    for site_id in ("other", "third"):  # sites without any do not conflict
        assert report.put(f"/admin/sites/{site_id}", headers=HEADERS, json={}).status_code == 200
    report.delete("/admin/sites/shop", headers=HEADERS)
    assert report.put("/admin/sites/other", headers=HEADERS, json=taken).status_code == 200


def test_a_site_stored_by_an_older_version_has_the_defaults_of_new_settings(sites: SiteStore, database: Database):
    old = {"_id": "shop", "timezone": "UTC", "goals": [], "shows_visitors": True}
    database["sites"].insert_one(dict(old))
    assert sites.get("shop") == Site("shop", shows_visitors=True)
    database["sites"].replace_one({"_id": "shop"}, old | {"of_a_newer_one": 1})
    assert sites.list() == [Site("shop", shows_visitors=True)]


def test_every_setting_is_in_the_schema_the_docs_and_the_description_of_the_api(report: FlaskClient):
    names = set(dump_site(Site("shop")))
    assert {field.attribute or name for name, field in SiteSchema().fields.items()} == {x.name for x in fields(Site)}
    page = (Path(__file__).parents[2] / "docs/sites.md").read_text(encoding="utf-8")
    section = page.partition("\n## Settings\n")[2].partition("\n## ")[0]
    assert {"site_id", *re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)} == names
    described = report.get("/openapi.json").json["paths"]["/admin/sites/{site_id}"]["put"]["responses"]["200"]
    assert set(described["content"]["application/json"]["schema"]["properties"]) == names
