"""Commands of the console: failures are kept, and a request does not wait long for another command."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import structlog
from werkzeug.exceptions import ServiceUnavailable

from config.settings import Settings
from report_app.console.commands import Commands


def test_a_command_that_fails_is_not_run_again_at_once(settings: Settings):
    commands = Commands(settings)
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(ServiceUnavailable, match="gave no answer"):
                commands.answer("no-such-command")
    assert [line["event"] for line in logs] == ["command_failed"]


def test_a_request_does_not_wait_for_a_command_of_another(settings: Settings):
    commands, both = Commands(settings, longest_wait=0), Barrier(2)

    def ask(name: str) -> str:
        both.wait()
        with pytest.raises(ServiceUnavailable) as refusal:
            commands.answer(name)
        return str(refusal.value.description)[:15]

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(ask, ("no-such-command", "no-other-one"))) == ["Another command", "`python -m foot"]
