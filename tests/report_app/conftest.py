"""Pages have their figures in them, however busy the machine is that tests them."""

import pytest

from report_app.pages import dashboard


@pytest.fixture(autouse=True)
def figures_in_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "_IN_THE_PAGE", 30.0)
