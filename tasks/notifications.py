"""Checks the rules of notifications every minute, and sends notifications that are due.

The tasks are on the queue of segments, so that no event waits behind them. Each may run several times at once, and may
crash at any point (analytics/notifications/store.py). One process per machine sends at a time, so that a mail server
that does not answer holds one process and not all.
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from analytics.notifications.rule import CHEAP_KINDS, COUNTING_KINDS, RuleKind
from analytics.segments.scratch import alone
from tasks.app import app, services, settings
from tasks.outcome import Result, zeros_if_unavailable

SEND_FOR = timedelta(seconds=20)  # then the next task continues
_SEND_LIMITS = {"soft_time_limit": 60, "time_limit": 70}  # below the lease of a notification
_CHECK_LIMITS = {"soft_time_limit": 240, "time_limit": 250}


# Acked at once: MongoDB knows what is due, and the next task does what this one does not.
@app.task(name="tasks.notifications.check_rules", acks_late=False, **_CHECK_LIMITS)
@zeros_if_unavailable("rules_not_checked", rules=0, notifications=0)
def check_rules() -> Result:
    return _check(CHEAP_KINDS)


@app.task(name="tasks.notifications.check_counts", acks_late=False, **_CHECK_LIMITS)
@zeros_if_unavailable("rules_not_checked", rules=0, notifications=0)
def check_counts() -> Result:
    """Checks the rules that count events, which takes longer."""
    return _check(COUNTING_KINDS)


@app.task(name="tasks.notifications.send_notifications", acks_late=False, **_SEND_LIMITS)
@zeros_if_unavailable("notifications_not_sent", sent=0, failed=0)
def send_notifications() -> Result:
    settings.segment_folder.mkdir(parents=True, exist_ok=True)
    with alone(settings.segment_folder / "sending.lock") as is_ours:
        return services().deliveries.send_due(until=datetime.now(UTC) + SEND_FOR) if is_ours else {}


def _check(kinds: Collection[RuleKind]) -> Result:
    checked = services().rule_checker.check(kinds)
    return {"rules": checked.rules, "notifications": checked.notifications}
