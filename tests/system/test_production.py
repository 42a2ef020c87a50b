"""With APP_ENV=production: no process starts without its secrets, and Flower is read-only and needs its password."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from analytics.published_copy import COPY_KEPT_FOR
from config.settings import Settings, SettingsError, load_settings
from footfall.embedded_servers import Server
from tests.support.running_system import BIN, System, own_environment, pick_ports, running_alone, wait_for

ROOT = Path(__file__).parents[2]
PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
SECRETS = {
    "SECRET_KEY": "a-secret-for-tests-only",
    "ADMIN_KEY": "an-admin-key-for-tests",
    "FLOWER_BASIC_AUTH": "me:g3heim",
}
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
LOGIN = ("me", "g3heim")
PROCESSES = PROCFILE | {
    "run": f"{sys.executable} -m footfall.supervisor",
    "cli": f"{sys.executable} -m footfall keys list",
}


def missing_from(message: str) -> set[str]:
    return {name for name in SECRETS if name in message}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_all(**given: str) -> None:
        for name in SECRETS:
            monkeypatch.delenv(name, raising=False)
        for name, value in ({"APP_ENV": "production"} | given).items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize("left_out", [set(), {"SECRET_KEY"}, {"ADMIN_KEY"}, {"SECRET_KEY", "ADMIN_KEY"}, set(SECRETS)])
def test_production_names_every_secret_that_is_missing_at_once(environment: Callable[..., None], left_out: set[str]):
    environment(**{name: value for name, value in SECRETS.items() if name not in left_out})
    if not left_out:
        assert load_settings(with_flower=True).is_production
        return
    for with_flower in (False, True):
        with pytest.raises(SettingsError) as caught:
            load_settings(with_flower=with_flower)
        assert missing_from(str(caught.value)) == left_out
        assert not any(value in str(caught.value) for value in SECRETS.values())


def test_only_flower_needs_its_password(environment: Callable[..., None]):
    environment(**SECRETS | {"FLOWER_BASIC_AUTH": ""})
    assert load_settings().is_production
    with pytest.raises(SettingsError, match="FLOWER_BASIC_AUTH"):
        load_settings(with_flower=True)


@pytest.mark.parametrize("app_env", ["development", "production"])
@pytest.mark.parametrize("logins", ["g3heim", "me:", ":g3heim", "me:g3heim,", "me:g3heim,you"])
def test_an_invalid_login_for_flower_is_refused(environment: Callable[..., None], logins: str, app_env: str):
    environment(**SECRETS | {"FLOWER_BASIC_AUTH": logins, "APP_ENV": app_env})
    with pytest.raises(SettingsError, match="FLOWER_BASIC_AUTH must be user:password") as caught:
        load_settings()
    assert "g3heim" not in str(caught.value)


def test_development_needs_no_secret(environment: Callable[..., None]):
    environment(APP_ENV="")
    assert not load_settings(with_flower=True).is_production


@pytest.mark.parametrize("secret", ["short", "with a blank in it", "nicht-druckb\u00e4r-mit-umlaut"])
@pytest.mark.parametrize("name", ["SECRET_KEY", "SECRET_KEY_OLD", "ADMIN_KEY"])
def test_a_weak_secret_is_refused_and_not_printed(environment: Callable[..., None], name: str, secret: str):
    environment(**SECRETS | {name: secret})
    with pytest.raises(SettingsError, match=name) as caught:
        load_settings()
    assert secret not in str(caught.value)


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_no_process_starts_in_production_without_its_secrets(name: str, tmp_path: Path):
    environment = own_environment() | {"APP_ENV": "production", "DATA_DIR": str(tmp_path)} | dict.fromkeys(SECRETS, "")
    environment["PATH"] = f"{BIN}:{os.environ['PATH']}"
    ran = subprocess.run(
        shlex.split(PROCESSES[name]), env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode != 0
    assert missing_from(ran.stderr) == set(SECRETS), ran.stderr
    assert "Traceback" not in ran.stderr


def test_flower_in_production_needs_its_password_and_changes_nothing(redis_running: Server, tmp_path: Path):
    (port,) = pick_ports(1)
    url = f"http://127.0.0.1:{port}"
    environment = SECRETS | {"APP_ENV": "production", "FLOWER_PORT": str(port), "REDIS_URL": redis_running.url}
    environment |= {"FLOWER_READ_ONLY": "false"}  # this value in the environment has no effect
    log = tmp_path / "flower.log"
    with running_alone(PROCFILE["flower"], log, **environment), httpx.Client(base_url=url, timeout=10) as client:

        def is_up() -> bool:
            try:
                return client.get("/healthcheck").status_code == 200
            except httpx.TransportError:
                return False

        wait_for(is_up, "Flower")
        for page in ("/", "/workers", "/tasks", "/broker", "/metrics", "/api/workers", "/api/tasks", "/api/task/types"):
            assert client.get(page).status_code == 401, page
            assert client.get(page, auth=("me", "wrong")).status_code == 401, page
            assert client.get(page, auth=LOGIN).status_code == 200, page
        changes = [
            *[f"/api/worker/{what}/worker@here" for what in ("shutdown", "pool/restart", "pool/grow", "pool/shrink",
              "pool/autoscale", "queue/add-consumer", "queue/cancel-consumer")],
            *[f"/api/task/{what}/tasks.events.store_events" for what in ("apply", "async-apply", "send-task", "abort",
              "timeout", "rate-limit", "revoke")],
        ]  # fmt: skip
        for change in changes:
            assert client.post(change).status_code == 401, change
            answer = client.post(change, auth=LOGIN)
            assert (answer.status_code, answer.text) == (403, "Read only mode is enabled"), change
    assert not any(value in log.read_text() for value in ("g3heim", SECRETS["ADMIN_KEY"], SECRETS["SECRET_KEY"]))


def test_production_accepts_events_of_known_sites_even_while_mongodb_is_frozen(tmp_path: Path):
    system = System(tmp_path, APP_ENV="production", CLAIM_IDLE="5", **SECRETS)
    admin = {"Authorization": f"Bearer {SECRETS['ADMIN_KEY']}"}

    def send() -> httpx.Response:
        event = {"site_id": "shop", "event_type": "pageview", "path": "/", "user_id": "ann"}
        return httpx.post(f"{system.ingest}/event", json=event, headers={"User-Agent": BROWSER}, timeout=10)

    def views(**headers: str) -> int | None:
        answer = httpx.get(f"{system.report}/stats", params={"site_id": "shop"}, headers=headers, timeout=10)
        return answer.json().get("total_views")

    try:
        system.start()
        unknown = wait_for(lambda: (answer := send()).status_code != 503 and answer, "the sites to be published")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, "unknown_site")
        put = httpx.put(f"{system.report}/admin/sites/shop", headers=admin, json={"timezone": "Europe/Berlin"})
        assert put.status_code == 200
        wait_for(lambda: send().status_code == 200, "the collector to know the site", 10)
        (mongod,) = system.part("mongod")
        mongod.suspend()
        asked_again = time.monotonic() + COPY_KEPT_FOR
        wait_for(lambda: send().status_code == 200 and time.monotonic() > asked_again, "events without MongoDB", 15)
        mongod.resume()
        asked = {"name": "reports", "scopes": ["stats:read"], "sites": ["shop"]}
        key = httpx.post(f"{system.report}/admin/keys", headers=admin, json=asked, timeout=20).json()["key"]
        wait_for(lambda: (views(Authorization=f"Bearer {key}") or 0) > 1, "the events in a report", 60)
        assert views() is None
        assert "reports_opened" not in system.output()
        assert not any(secret in system.output() for secret in (key, *SECRETS.values()))
    finally:
        system.kill()


def test_no_secret_shows_where_settings_are_printed():
    settings = Settings(secret_key="s" * 16, secret_key_old="t" * 16)
    assert "s" * 16 not in repr(settings)
    assert "t" * 16 not in repr(settings)
