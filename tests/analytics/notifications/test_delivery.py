"""Notifications reach real servers once: also if a worker is killed at any step, and never a private address."""

import base64
import hashlib
import hmac
import json
import signal
import socket
import subprocess
import sys
import time as clock
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pymongo.database import Database

from analytics.notifications.connection import is_public
from analytics.notifications.delivery import MOST_ATTEMPTS, Deliveries
from analytics.notifications.mail import Mailer
from analytics.notifications.messages import message_of_test
from analytics.notifications.notification import Notification
from analytics.notifications.rule import Channel, Rule
from analytics.notifications.store import SEND_LEASE, NotificationStore
from analytics.notifications.webhook import Webhooks
from config.settings import Settings
from tests.analytics.notifications.conftest import Time
from tests.support.receivers import (
    GOOD,
    STAGES,
    Hooks,
    Mailbox,
    certificate,
    drip,
    http_server,
    own_address,
    raw_server,
    say_nothing,
    smtp_server,
)
from tests.support.running_system import ROOT

Add = Callable[..., Rule]
SENDER = "Footfall <footfall@example.com>"
LOOPBACK = "127.0.0.1"
PUBLIC = "93.184.215.14"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with smtp_server() as mailbox:
        yield mailbox


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    with http_server() as hooks:
        yield hooks


@pytest.fixture
def webhooks(time: Time) -> Webhooks:
    """These tests permit this machine's address. The tests of private addresses do not."""
    return Webhooks(time, is_allowed=lambda address: address == LOOPBACK, seconds=1.0)


@pytest.fixture
def deliveries(store: NotificationStore, mailbox: Mailbox, webhooks: Webhooks, time: Time) -> Deliveries:
    channels = {
        Channel.EMAIL: Mailer(mailbox.url, SENDER, seconds=1.0).send,
        Channel.WEBHOOK: webhooks.send_signed,
        Channel.SLACK: webhooks.send_to_slack,
    }
    return Deliveries(store, channels, time)


@pytest.fixture
def notify(store: NotificationStore, add: Add, time: Time) -> Callable[..., Notification]:
    """Records a notification of a new rule. `port`: of a URL on this machine."""

    def notify(channel: str, port: int = 0, path: str = "/hook?token=1", **more: Any) -> Notification:
        target = "ann@example.com" if channel == "email" else f"http://{LOOPBACK}:{port}{path}"
        rule = add("lag", **({"channel": channel, "target": target} | more))
        message = message_of_test(rule, "https://stats.example.com")
        assert store.begin(rule, "2026-11-22", message, time())
        made = store.get(f"{rule.id}/2026-11-22")
        assert made is not None
        return made

    return notify


Notify = Callable[..., Notification]


def send(deliveries: Deliveries) -> dict[str, int]:
    return dict(deliveries.send_due(until=deliveries.now() + timedelta(seconds=20)))


def state(store: NotificationStore, notification: Notification) -> tuple[str, str | None]:
    found = store.get(notification.id)
    assert found is not None
    return found.state, found.error


def test_an_e_mail_arrives_once(deliveries: Deliveries, mailbox: Mailbox, notify: Notify, store: NotificationStore):
    notification = notify("email")
    assert send(deliveries) == {"sent": 1, "failed": 0}
    assert send(deliveries) == {"sent": 0, "failed": 0}
    (message,) = mailbox.messages
    assert message["Subject"] == "shop: a test notification"
    assert (message["From"], message["To"]) == (SENDER, "ann@example.com")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@example.com>")
    assert message.get_content().strip().endswith("https://stats.example.com/site/shop")
    found = store.get(notification.id)
    assert (found.state, found.attempts, found.due_at, found.sent_at) == ("sent", 1, None, deliveries.now())


def test_a_text_in_any_script_arrives_unchanged(deliveries: Deliveries, mailbox: Mailbox, notify: Notify, add: Add):
    rule = add("lag")
    text = "Übersicht: 東京\n.\nline that starts with a dot\n" + "long " * 400
    message = replace(message_of_test(rule, ""), subject="Größe 東京", text=text)
    assert deliveries.store.begin(rule, "2026", message, deliveries.now())
    send(deliveries)
    assert mailbox.messages[0]["Subject"] == "Größe 東京"
    assert mailbox.messages[0].get_content().replace("\r\n", "\n") == text + "\n"


def test_a_webhook_is_signed_as_the_standard_says(
    deliveries: Deliveries, hooks: Hooks, notify: Notify, store: NotificationStore
):
    notification = notify("webhook", hooks.port)
    assert send(deliveries) == {"sent": 1, "failed": 0}
    (posted,) = hooks.posted
    assert posted.path == "/hook?token=1"
    rule = store.rule(notification.rule_id)
    key = base64.b64decode(rule.secret.removeprefix("whsec_"))
    signed = f"{posted.headers['webhook-id']}.{posted.headers['webhook-timestamp']}.".encode() + posted.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert posted.headers["webhook-signature"] == f"v1,{expected}"
    assert posted.headers["webhook-id"] == notification.id
    assert posted.headers["webhook-timestamp"] == str(int(deliveries.now().timestamp()))
    assert posted.headers["host"] == f"{LOOPBACK}:{hooks.port}"
    body = json.loads(posted.body)
    assert (body["type"], body["data"]["site_id"]) == ("lag", "shop")


def test_slack_gets_text_without_links_and_mentions(
    deliveries: Deliveries, hooks: Hooks, store: NotificationStore, add: Add
):
    rule = add("lag", channel="slack", target=f"http://{LOOPBACK}:{hooks.port}/services/T/B/x")
    message = replace(
        message_of_test(rule, ""), text="<!channel> & <https://evil.example|here>, @everyone [here](//evil)"
    )
    assert store.begin(rule, "2026", message, deliveries.now())
    send(deliveries)
    (posted,) = hooks.posted
    assert json.loads(posted.body) == {
        "text": "*shop: a test notification*\n&lt;!channel&gt; &amp; &lt;https://evil.example|here&gt;,"
        " @\u200beveryone [\u200bhere](//evil)"
    }
    assert "webhook-signature" not in posted.headers


@pytest.mark.parametrize("channel", ["webhook", "slack"])
def test_a_refused_request_is_sent_again_later_with_the_same_id(
    channel: str, deliveries: Deliveries, hooks: Hooks, notify: Notify
):
    hooks.status = 503
    notification = notify(channel, hooks.port)
    assert send(deliveries) == {"sent": 0, "failed": 1}
    assert state(deliveries.store, notification) == ("waiting", "The server answered 503 ")
    deliveries.now.passes(seconds=29)
    assert send(deliveries) == {"sent": 0, "failed": 0}
    hooks.status = 200
    deliveries.now.passes(seconds=1)
    assert send(deliveries) == {"sent": 1, "failed": 0}
    assert state(deliveries.store, notification) == ("sent", None)
    assert len({posted.headers.get("webhook-id") for posted in hooks.posted}) == 1
    assert len({posted.body for posted in hooks.posted}) == 1


def test_a_notification_that_is_always_refused_fails_in_the_end(
    deliveries: Deliveries, hooks: Hooks, notify: Notify, time: Time, store: NotificationStore
):
    hooks.status = 404
    notification = notify("webhook", hooks.port)
    for _ in range(MOST_ATTEMPTS + 3):
        send(deliveries)
        time.passes(hours=13)
    assert len(hooks.posted) == MOST_ATTEMPTS
    assert state(store, notification)[0] == "failed"
    assert store.log(state="failed")[0].id == notification.id


def test_an_address_that_does_not_exist_is_not_tried_again(
    deliveries: Deliveries, mailbox: Mailbox, notify: Notify, store: NotificationStore
):
    mailbox.answer = "550 no such user"
    notification = notify("email")
    send(deliveries)
    assert state(store, notification) == ("failed", "The SMTP server refused the address: 550 no such user")


def test_a_mailbox_that_is_busy_is_tried_again(
    deliveries: Deliveries, mailbox: Mailbox, notify: Notify, time: Time, store: NotificationStore
):
    mailbox.answer = "451 greylisted"
    notification = notify("email")
    send(deliveries)
    assert state(store, notification)[0] == "waiting"
    mailbox.answer = "250 OK"
    time.passes(minutes=1)
    assert send(deliveries)["sent"] == 1
    assert len(mailbox.messages) == 1


@pytest.mark.parametrize("behave", [drip, say_nothing])
@pytest.mark.parametrize("channel", ["email", "webhook"])
def test_a_server_that_never_answers_holds_a_worker_for_a_second(
    channel: str, behave: Any, deliveries: Deliveries, notify: Notify, webhooks: Webhooks
):
    """`seconds` of these tests is 1. One byte at a time would satisfy the time limit of each read."""
    with raw_server(behave) as port:
        mailer = Mailer(f"smtp://{LOOPBACK}:{port}", SENDER, seconds=1.0)
        channels = {Channel.EMAIL: mailer.send, Channel.WEBHOOK: webhooks.send_signed}
        notification = notify(channel, port)
        notify(channel, port)
        began = clock.monotonic()
        done = send(replace(deliveries, channels=channels))
        assert 0.9 < clock.monotonic() - began < 3
    assert done == {"sent": 0, "failed": 1}, "the second one waits for the next run"
    assert state(deliveries.store, notification)[0] == "waiting"


def answer_slowly(connection: socket.socket) -> None:
    connection.recv(10_000)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    drip(connection)


def test_a_webhook_that_accepts_and_sends_its_body_slowly_has_received_the_notification(
    deliveries: Deliveries, notify: Notify
):
    with raw_server(answer_slowly) as port:
        notify("webhook", port)
        assert send(deliveries) == {"sent": 1, "failed": 0}


def test_slack_that_may_have_received_a_message_gets_no_second_one(
    deliveries: Deliveries, notify: Notify, store: NotificationStore
):
    with raw_server(say_nothing) as port:
        notification = notify("slack", port)
        send(deliveries)
    assert state(store, notification)[0] == "failed"


def test_slack_that_is_unreachable_gets_the_message_later(
    deliveries: Deliveries, notify: Notify, store: NotificationStore
):
    with raw_server(say_nothing) as port:
        pass
    notification = notify("slack", port)
    send(deliveries)
    assert state(store, notification)[0] == "waiting"


def test_a_redirect_is_not_followed(deliveries: Deliveries, hooks: Hooks, notify: Notify, store: NotificationStore):
    hooks.status, hooks.headers = 307, {"Location": f"http://{LOOPBACK}:{hooks.port}/other"}
    notification = notify("webhook", hooks.port)
    send(deliveries)
    assert [posted.path for posted in hooks.posted] == ["/hook?token=1"]
    assert state(store, notification)[0] == "waiting"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "240.0.0.1",
        "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1", "fec0::1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_on_the_public_internet_is_refused(address: str):
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700::6810:84e5", "2a00:1450:4001:80b::200e"])
def test_a_public_address_is_accepted(address: str):
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_no_request_goes_to_a_private_address(host: str, deliveries: Deliveries, hooks: Hooks, notify: Notify):
    """In every form in which a URL can name this machine."""
    notification = notify("webhook", target=f"http://{host}:{hooks.port}/")
    send(replace(deliveries, channels={Channel.WEBHOOK: Webhooks(deliveries.now).send_signed}))
    assert hooks.posted == []
    assert state(deliveries.store, notification)[0] in ("failed", "waiting"), "waiting: no such host"
    assert state(deliveries.store, notification)[1] is not None


def test_a_name_with_a_private_address_among_others_is_refused(
    deliveries: Deliveries, hooks: Hooks, notify: Notify, store: NotificationStore, time: Time
):
    webhooks = Webhooks(time, resolve=lambda *_: [PUBLIC, LOOPBACK])
    notification = notify("webhook", target=f"http://rebind.example:{hooks.port}/")
    send(replace(deliveries, channels={Channel.WEBHOOK: webhooks.send_signed}))
    found, error = state(store, notification)
    assert found == "failed"
    assert "127.0.0.1, which is not on the public internet" in str(error)
    assert hooks.posted == []


def test_a_name_that_changes_its_address_is_resolved_once(
    deliveries: Deliveries, hooks: Hooks, notify: Notify, time: Time
):
    """The connection goes to the address that was checked. The name alone would lead elsewhere."""
    answers = iter([[LOOPBACK]])
    webhooks = Webhooks(time, is_allowed=lambda address: address == LOOPBACK, resolve=lambda *_: next(answers))
    notify("webhook", target=f"http://rebind.invalid:{hooks.port}/")
    assert send(replace(deliveries, channels={Channel.WEBHOOK: webhooks.send_signed}))["sent"] == 1
    assert hooks.posted[0].headers["host"] == f"rebind.invalid:{hooks.port}"


def test_a_notification_of_a_removed_rule_is_not_sent(
    deliveries: Deliveries, mailbox: Mailbox, notify: Notify, store: NotificationStore
):
    notification = notify("email")
    assert store.remove(notification.rule_id)
    send(deliveries)
    assert mailbox.messages == []
    assert state(store, notification) == ("failed", "The rule was removed.")


def test_a_claim_is_exclusive_until_its_lease_is_over(store: NotificationStore, notify: Notify, time: Time):
    notify("email")
    first = store.claim(time())
    assert first is not None
    assert store.claim(time()) is None
    assert not store.is_any_due(time())
    time.passes(seconds=SEND_LEASE.total_seconds())
    assert store.is_any_due(time())
    second = store.claim(time())
    assert (second.was_sending, second.notification.attempts) == (True, 2)
    store.failed(first, "too late", None)
    store.sent(second, time())
    store.failed(first, "too late", None)
    assert store.log()[0].state == "sent"


SENDING = """
import sys
from datetime import UTC, datetime, timedelta
from config.services import Services
from config.settings import Settings
mongodb_uri, redis_url, url, sender = sys.argv[1:]
ours = Services(Settings(mongodb_uri=mongodb_uri, redis_url=redis_url, smtp_url=url, mail_from=sender))
ours.deliveries.send_due(until=datetime.now(UTC) + timedelta(seconds=20))
"""


@pytest.mark.parametrize("stage", STAGES)
def test_a_worker_that_is_killed_while_it_sends_is_replaced(
    stage: str, mailbox: Mailbox, notify: Notify, settings: Settings, deliveries: Deliveries
):
    """Killed before the server has the message: one copy. Killed before it reads the answer to the message: the server
    has a second copy, with the same Message-ID, by which mail systems recognise it.
    """
    mailbox.stops_at = stage
    notification = notify("email")
    command = [sys.executable, "-c", SENDING, settings.mongodb_uri, settings.redis_url, mailbox.url, SENDER]
    with subprocess.Popen(command, cwd=ROOT) as process:
        assert mailbox.reached.wait(20)
        process.send_signal(signal.SIGKILL)
    mailbox.stops_at = ""
    mailbox.resumed.set()
    claimed = deliveries.store.get(notification.id)
    assert (claimed.state, claimed.attempts) == ("sending", 1)
    deliveries.now.now = claimed.due_at
    assert send(deliveries) == {"sent": 1, "failed": 0}
    assert len(mailbox.messages) == (2 if stage == "DATA" else 1)
    assert len({message["Message-ID"] for message in mailbox.messages}) == 1
    assert state(deliveries.store, notification)[0] == "sent"


def test_a_worker_that_is_killed_while_it_sends_to_slack_is_not_replaced(
    store: NotificationStore, deliveries: Deliveries, notify: Notify, hooks: Hooks, time: Time
):
    notification = notify("slack", hooks.port)
    assert store.claim(time()) is not None, "by a process that dies"
    time.passes(seconds=SEND_LEASE.total_seconds())
    send(deliveries)
    assert hooks.posted == []
    assert "Slack may have received it" in str(state(store, notification)[1])


def test_a_process_that_dies_at_every_attempt_stops_in_the_end(
    store: NotificationStore, deliveries: Deliveries, mailbox: Mailbox, notify: Notify, time: Time
):
    notification = notify("email")
    for _ in range(MOST_ATTEMPTS):
        assert store.claim(time()) is not None
        time.passes(seconds=SEND_LEASE.total_seconds())
    send(deliveries)
    assert mailbox.messages == []
    assert state(store, notification)[0] == "failed"


def test_the_log_is_read_in_pages(store: NotificationStore, notify: Notify, time: Time):
    made = []
    for _ in range(5):
        made.append(notify("email").id)
        time.passes(seconds=1)
    first = store.log(limit=2)
    rest = store.log(after=first[-1].id, limit=10)
    assert [each.id for each in (*first, *rest)] == made[::-1]
    assert len(store.log("shop")) == 5
    assert store.log("other") == []
    assert store.log(state="sent") == []


def test_a_login_over_tls_from_the_start(
    deliveries: Deliveries, notify: Notify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trusted, context = certificate(tmp_path, LOOPBACK)
    with smtp_server(ssl_context=context, auth_require_tls=False) as mailbox:
        url = f"smtps://ann:{quote(GOOD, safe='')}@localhost:{mailbox.port}"
        mailer = Mailer(url, SENDER, seconds=5.0)
        notification = notify("email")
        ours = replace(deliveries, channels={Channel.EMAIL: mailer.send})
        assert send(ours) == {"sent": 0, "failed": 1}, "the certificate is not trusted"
        assert "certificate" in str(state(deliveries.store, notification)[1])
        assert mailbox.signed_in == []
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        ours.now.passes(minutes=1)
        assert send(ours) == {"sent": 1, "failed": 0}
        assert mailbox.signed_in == ["ann"]
        assert len(mailbox.messages) == 1


def test_a_wrong_password_does_not_appear_in_the_log(deliveries: Deliveries, notify: Notify):
    with smtp_server(auth_require_tls=False) as mailbox:
        mailer = Mailer(f"smtp://ann:hunter2@{LOOPBACK}:{mailbox.port}", SENDER)
        notification = notify("email")
        send(replace(deliveries, channels={Channel.EMAIL: mailer.send}))
    assert state(deliveries.store, notification) == ("waiting", "127.0.0.1 refused the login in SMTP_URL.")


def test_a_password_crosses_the_network_only_over_tls(
    deliveries: Deliveries, notify: Notify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    address = own_address()
    trusted, context = certificate(tmp_path, address)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))

    def send_over(mailbox: Mailbox) -> tuple[str, str | None]:
        mailer = Mailer(f"smtp://ann:{quote(GOOD, safe='')}@{address}:{mailbox.port}", SENDER)
        notification = notify("email")
        send(replace(deliveries, channels={Channel.EMAIL: mailer.send}))
        return state(deliveries.store, notification)

    with smtp_server(address, auth_require_tls=False) as mailbox:
        found, error = send_over(mailbox)
        assert (found, mailbox.signed_in) == ("waiting", [])
        assert "does not offer TLS" in str(error)
    with smtp_server(address, tls_context=context, require_starttls=True) as mailbox:
        assert send_over(mailbox) == ("sent", None)
        assert mailbox.signed_in == ["ann"]


def test_a_webhook_over_https_checks_the_certificate_of_its_name(
    deliveries: Deliveries, notify: Notify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time: Time
):
    trusted, context = certificate(tmp_path, LOOPBACK)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    permissive = Webhooks(time, is_allowed=lambda _: True, resolve=lambda *_: [LOOPBACK])
    ours = replace(deliveries, channels={Channel.WEBHOOK: permissive.send_signed})
    with http_server(context) as hooks:
        other = notify("webhook", target=f"https://other.example:{hooks.port}/")
        assert send(ours) == {"sent": 0, "failed": 1}
        assert "certificate" in str(state(deliveries.store, other)[1])
        assert hooks.posted == []
        notify("webhook", target=f"https://localhost:{hooks.port}/")
        assert send(ours) == {"sent": 1, "failed": 0}
        assert hooks.posted[0].headers["host"] == f"localhost:{hooks.port}"


def test_secrets_do_not_appear_in_representations(database: Database[dict[str, Any]], add: Add):
    rule = add("lag", channel="slack", target="https://hooks.slack.com/services/T0/B0/secret")
    assert "secret" not in repr(rule)
    mailer = Mailer("smtp://ann:hunter2@mail.example", SENDER)
    assert "hunter2" not in repr(mailer)
