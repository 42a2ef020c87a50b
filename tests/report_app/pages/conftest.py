"""An owner who is signed in."""

import pytest

from config.services import Services
from config.settings import Settings
from report_app import create_app
from tests.support.accounts import Browser, make_owner


@pytest.fixture
def owner(settings: Settings, services: Services) -> Browser:
    make_owner(services.accounts, "owner@example.org")
    browser = Browser(create_app(settings, services))
    assert browser.sign_in("owner@example.org").status_code == 303
    return browser
