"""An owner who is signed in; and pages with their figures in them, however busy the machine is that tests them."""

import pytest

from config.services import Services
from config.settings import Settings
from report_app import create_app
from report_app.pages import dashboard
from tests.support.accounts import Browser, make_owner


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "_IN_THE_PAGE", 30.0)


@pytest.fixture
def owner(settings: Settings, services: Services) -> Browser:
    make_owner(services.accounts, "owner@example.org")
    browser = Browser(create_app(settings, services))
    assert browser.sign_in("owner@example.org").status_code == 303
    return browser
