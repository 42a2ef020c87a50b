"""The charts of rates and lag draw the samples."""

from config.services import Services
from tests.report_app.console.conftest import Tell
from tests.support.accounts import Browser


def test_the_charts_have_a_table_of_the_samples(owner: Browser, real: Services, tell: Tell):
    assert "No samples in this period." in owner.get("/ops/rates").text
    real.samples.take()
    tell({}, {}, "not json")
    real.samples.take()
    for period, parts in (("hour", 30), ("day", 96), ("week", 84), ("century", 30)):
        page = owner.get(f"/ops/rates?period={period}").text
        assert page.count('class="chart"') == 4
        assert page.count('scope="row"') == 4 * parts
        assert page.count('data-now=""') == 4 * (parts - 1)
