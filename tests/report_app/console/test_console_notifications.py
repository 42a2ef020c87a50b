"""Rules of notifications in the console: added, tested, removed. The log: filtered, and read page by page."""

import re
from datetime import timedelta
from html import unescape

import pytest

from analytics.notifications.messages import message_of_test
from analytics.notifications.notification import NotificationState
from analytics.notifications.rule import Rule, RuleKind
from analytics.notifications.rule_schema import load_rule
from analytics.sites.site import Goal, Site
from config.services import Services
from report_app.console.notifications import LOG_ON_A_PAGE
from tests.report_app.console.test_console_access import NO_ID
from tests.report_app.console.test_console_ledger import table
from tests.support.accounts import Browser, errors_in, path_of

PAGE, NEW = "/ops/notifications", "/ops/notifications/new"
HOSTILE = "\"'><img src=x>"
HOOK = {"site_id": "shop", "kind": "silence", "channel": "webhook", "target": "https://example.com/hook?token=1"}


@pytest.fixture(autouse=True)
def sites(real: Services) -> None:
    real.sites.put(Site("shop", domains=("shop.example",), goals=(Goal("Sign-up", "signup"),)))
    real.sites.put(Site(HOSTILE, goals=(Goal(HOSTILE, "signup"),)))


def rules_in(page: str) -> list[list[str]]:
    return table(page.partition('id="log"')[0])


def log_in(page: str) -> list[list[str]]:
    return table(page.partition('id="log"')[2])


def add(real: Services, **changes: object) -> Rule:
    return real.notifications.add(load_rule(HOOK | changes, real.now()))


def send_test(real: Services, rule: Rule, state: NotificationState, error: str = "") -> None:
    """Puts a test notification of the rule into the log. A worker claimed it, unless it waits without an error."""
    store, now = real.notifications, real.now()
    test = store.add_test(rule, message_of_test(rule, ""), now)
    if state != "waiting" or error:
        claim = store.claim(now + timedelta(seconds=1), test.id)
        assert claim
        if state == "sent":
            store.sent(claim, now)
        else:
            store.failed(claim, error, now + timedelta(seconds=30) if state == "waiting" else None)


def test_the_secret_of_a_webhook_is_shown_once(owner: Browser, real: Services):
    made = owner.post(NEW, **HOOK, threshold="30")
    found = re.search('class="secret">(whsec_[^<]*)<', made.text)
    assert found, errors_in(made.text)
    (rule,) = real.notifications.rules()
    assert (rule.secret, rule.threshold) == (unescape(found[1]), 30)
    page = owner.get(PAGE).text
    assert "whsec_" not in page
    assert "token=1" not in page
    row = ["shop", "silence", "30 minutes", "webhook", "https://example.com/...", "watching"]
    assert [each[:6] for each in rules_in(page)] == [row]


def test_a_rule_without_a_secret_is_added_and_the_page_may_be_reloaded(owner: Browser, real: Services):
    made = owner.post(NEW, **HOOK | {"site_id": "shop.example", "channel": "slack"}, threshold="")
    assert path_of(made) == PAGE
    assert [(rule.site_id, rule.threshold) for rule in real.notifications.rules()] == [("shop", 60)]


@pytest.mark.parametrize(("page", "language"), [("de", "de"), ("fr", "en")])
def test_a_rule_speaks_the_language_of_the_page_that_made_it_until_it_is_changed(
    owner: Browser, real: Services, page: str, language: str
):
    form = owner.get(f"{NEW}?kind=lag", headers={"Accept-Language": page}).text
    (chosen,) = re.findall('<option value="([a-z]*)" selected>', form)
    assert chosen == language
    rule = add(real, kind="lag", language=chosen)
    assert path_of(owner.post(f"{PAGE}/{rule.id}/edit", target="", threshold="5", language="")) == PAGE
    assert [each.language for each in real.notifications.rules()] == [None]
    refused = owner.post(NEW, **HOOK, language="xx")
    assert (refused.status_code, 'id="language-error"' in refused.text) == (400, True)


@pytest.mark.parametrize("kind", RuleKind)
def test_the_form_has_the_fields_of_its_kind(owner: Browser, real: Services, kind: RuleKind):
    assert f"kind={kind}" in owner.get(NEW).text
    form = owner.get(f"{NEW}?kind={kind}").text
    given = dict.fromkeys(re.findall('<(?:input|select) name="([^"]*)"', form), "") | HOOK | {"kind": kind}
    assert ("goal" in given, "period" in given) == (kind == "goal", kind == "goal")
    assert ("threshold" in given) == (kind not in ("weekly", "monthly"))
    if kind == "goal":
        given |= {"goal": "Sign-up", "threshold": "1000", "period": "week"}
    made = owner.post(NEW, page=f"{NEW}?kind={kind}", **given)
    assert made.status_code == 200, errors_in(made.text)
    assert [rule.kind for rule in real.notifications.rules()] == [kind]
    if kind == "goal":
        assert rules_in(owner.get(PAGE).text)[0][2] == "1,000 conversions of Sign-up in a week"


@pytest.mark.parametrize(
    ("fields", "name", "said"),
    [
        ({"site_id": "shpo"}, "site_id", "There is no site 'shpo'. Did you mean 'shop'?"),
        ({"site_id": ""}, "site_id", "Length must be between 1 and 128."),
        ({"target": "http://user@example.com"}, "target", "Not a URL such as https://example.com/hook"),
        ({"channel": "email", "target": "ann@example.com"}, "channel", "E-mail is not set up."),
        ({"channel": "pigeon"}, "channel", "Must be one of"),
        ({"threshold": "2"}, "threshold", "Not from 5 to 1440."),
        ({"threshold": "soon"}, "threshold", "Not a valid integer."),
        ({"threshold": "9" * 5000}, "threshold", "Not a valid integer."),
        ({"kind": "goal", "threshold": "1", "goal": "Sing-up"}, "goal", "Did you mean 'Sign-up'?"),
        ({"kind": "goal", "threshold": "1", "goal": "Sign-up", "period": "year"}, "period", "Must be one of"),
        ({"kind": "goal", "threshold": "1"}, "goal", "needs the name of a goal"),
        ({"goal": "Sign-up"}, None, "goal: Only a rule of the kind goal has this field."),
        ({"kind": "weekly", "threshold": "1"}, None, "threshold: A summary has no threshold."),
        ({"kind": ""}, "kind", "Must be one of"),
    ],
)
def test_a_field_that_is_wrong_is_named_and_keeps_what_was_written(
    owner: Browser, real: Services, fields: dict[str, str], name: str | None, said: str
):
    refused = owner.post(NEW, **HOOK | fields)
    assert refused.status_code == 400
    (error,) = errors_in(refused.text)
    assert said in error
    assert name is None or f'id="{name}-error"' in refused.text
    if name != "kind":
        assert all(f'name="{each}" value="{(HOOK | fields)[each]}"' in refused.text for each in ("site_id", "target"))
    assert real.notifications.rules() == []


def test_a_kind_that_does_not_exist_is_refused(owner: Browser):
    assert owner.get(f"{NEW}?kind=weather").status_code == 400
    assert owner.post(NEW, **HOOK | {"kind": "weather"}).status_code == 400


def test_a_test_goes_to_the_log_and_a_worker_says_why_it_was_not_sent(owner: Browser, real: Services):
    rule = add(real, target="http://127.0.0.1/hook")
    assert path_of(owner.post(f"{PAGE}/{rule.id}/test", page=PAGE)) == PAGE
    (waiting,) = log_in(owner.get(PAGE).text)
    assert waiting[1:6] == ["shop", "shop: a test notification", "webhook: http://127.0.0.1/...", "waiting", "0"]
    real.deliveries.send_due(real.now() + timedelta(seconds=10))
    (failed,) = log_in(owner.get(PAGE).text)
    assert failed[4:6] == ["failed", "1"]
    assert "127.0.0.1" in failed[6]


def test_a_rule_is_removed_after_a_confirmation(owner: Browser, real: Services):
    rule = add(real)
    page = f"{PAGE}/{rule.id}/remove"
    assert "Remove the rule silence of shop?" in owner.get(page).text
    assert real.notifications.rules() == [rule]
    assert path_of(owner.post(page)) == PAGE
    assert real.notifications.rules() == []
    assert owner.post(page, page=PAGE).status_code == 404
    assert owner.get(page).status_code == 404
    assert owner.post(f"{PAGE}/{NO_ID}/test", page=PAGE).status_code == 404


def test_the_state_of_a_rule_says_what_it_has_notified_of(owner: Browser, real: Services):
    rules = [add(real), add(real, kind="weekly"), add(real, kind="lag")]
    for rule, occasion in zip(rules, ("2026-11-28T09:30:00.000000Z", "2026-11-16", None), strict=True):
        if occasion:
            assert real.notifications.begin(rule, occasion, message_of_test(rule, ""), real.now())
    states = [row[5] for row in rules_in(owner.get(PAGE).text)]
    assert states == ["notified at 2026-11-28 09:30 UTC", "notified for the week of 2026-11-16", "watching"]


def test_the_log_is_filtered_by_site_and_state(owner: Browser, real: Services):
    shop, other = add(real), add(real, site_id=HOSTILE)
    send_test(real, shop, "sent")
    send_test(real, shop, "failed", "The server answered 410.")
    send_test(real, other, "waiting", "The server answered 503.")
    rows = {row[4]: row for row in log_in(owner.get(PAGE).text)}
    assert rows["sent"][6].startswith("sent at 20")
    assert rows["failed"][6] == "The server answered 410."
    assert rows["waiting"][6].startswith("The server answered 503. The next attempt is at 20")
    assert [row[4] for row in log_in(owner.get(f"{PAGE}?site=shop").text)] == ["failed", "sent"]
    assert [row[4] for row in log_in(owner.get(f"{PAGE}?site=shop&state=sent").text)] == ["sent"]
    none = owner.get(f"{PAGE}?site=nobody").text
    assert (log_in(none), "No notifications match." in none) == ([], True)
    assert len(rules_in(none)) == 2
    assert owner.get(f"{PAGE}?state=lost").status_code == 400


def test_older_notifications_are_on_the_next_page_with_the_same_filter(owner: Browser, real: Services):
    shop, other = add(real), add(real, kind="lag", site_id=HOSTILE)
    for _ in range(LOG_ON_A_PAGE + 1):
        send_test(real, shop, "waiting")
    send_test(real, other, "waiting")
    newest = owner.get(f"{PAGE}?site=shop&state=waiting").text
    assert len(log_in(newest)) == LOG_ON_A_PAGE
    older = re.search('rel="next" href="([^"]*)"', newest)
    assert older
    rest = owner.get(unescape(older[1])).text
    assert [row[1] for row in log_in(rest)] == ["shop"]
    assert 'rel="next"' not in rest


def test_hostile_text_is_escaped(owner: Browser, real: Services):
    target = f"https://{HOSTILE.replace(' ', '')}.example/hook"
    rule = add(real, site_id=HOSTILE, kind="goal", goal=HOSTILE, threshold=1, target=target)
    send_test(real, rule, "failed", HOSTILE)
    refused = dict.fromkeys(("site_id", "goal", "target", "threshold", "period"), HOSTILE)
    pages = [
        owner.get(PAGE),
        owner.get(f"{PAGE}?site={HOSTILE}"),
        owner.get(f"{PAGE}/{rule.id}/remove"),
        owner.post(NEW, **HOOK | {"kind": "goal"} | refused),
        owner.get(NEW + '?kind=">' + HOSTILE),
    ]
    assert [page.status_code for page in pages] == [200, 200, 200, 400, 400]
    for page in pages:
        assert "<img" not in page.text
    assert unescape(pages[0].text).count(HOSTILE) >= 5


def test_a_rule_is_changed_and_keeps_what_it_notified_of(owner: Browser, real: Services):
    rule = add(real)
    edit = f"{PAGE}/{rule.id}/edit"
    assert real.notifications.begin(rule, "2026-11-22T10:00:00", message_of_test(rule, ""), real.now())
    form = owner.get(edit).text
    assert "token=1" not in form
    assert 'value="60"' in form
    assert path_of(owner.post(edit, threshold="30", target="")) == PAGE
    (changed,) = real.notifications.rules()
    assert (changed.id, changed.target, changed.threshold, changed.secret) == (rule.id, rule.target, 30, rule.secret)
    assert changed.occasion == "2026-11-22T10:00:00"
    assert path_of(owner.post(edit, threshold="", target="https://example.net/other")) == PAGE
    (changed,) = real.notifications.rules()
    assert (changed.target, changed.threshold) == ("https://example.net/other", 60)
    assert "Change the rule silence of shop" in owner.get(edit).text


@pytest.mark.parametrize(
    ("fields", "name", "said"),
    [
        ({"threshold": "0"}, "threshold", "Must be greater than or equal to 1"),
        ({"target": "http://user@example.com"}, "target", "Not a URL such as https://example.com/hook"),
        ({"goal": "Sing-up"}, "goal", "Did you mean 'Sign-up'?"),
        ({"period": "year"}, "period", "Must be one of"),
    ],
)
def test_a_change_that_is_wrong_changes_nothing(
    owner: Browser, real: Services, fields: dict[str, str], name: str, said: str
):
    rule = add(real, kind="goal", goal="Sign-up", threshold=7)
    sent = {"goal": "Sign-up", "period": "week", "threshold": "8", "target": ""} | fields
    refused = owner.post(f"{PAGE}/{rule.id}/edit", **sent)
    assert refused.status_code == 400
    (error,) = errors_in(refused.text)
    assert said in error
    assert f'id="{name}-error"' in refused.text
    assert real.notifications.rules() == [rule]


def test_a_rule_that_is_gone_is_not_changed(owner: Browser):
    assert owner.get(f"{PAGE}/{NO_ID}/edit").status_code == 404
