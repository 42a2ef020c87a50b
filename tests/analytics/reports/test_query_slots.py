"""Sites and keys share the query slots: expensive queries of one of them leave a slot to the others."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from analytics.reports.query_slots import QuerySlots
from analytics.reports.results import Refused


class Company:
    """Queries that hold their slots until the test ends them."""

    def __init__(self, slots: QuerySlots) -> None:
        self.slots = slots
        self.pool = ThreadPoolExecutor(32)
        self.served: list[str] = []
        self.refused: list[str] = []
        self.end = threading.Semaphore(0)

    def ask(self, site_id: str, key: str = "", times: int = 1) -> None:
        for _ in range(times):
            self.pool.submit(self._ask, site_id, key)

    def _ask(self, site_id: str, key: str) -> None:
        try:
            with self.slots.slot(site_id, key):
                self.served.append(site_id)
                assert self.end.acquire(timeout=30)
        except Refused as refused:
            self.refused.append(refused.code)

    def leave(self) -> None:
        for _ in range(64):
            self.end.release()
        self.pool.shutdown()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def company(request: pytest.FixtureRequest):
    company = Company(QuerySlots(request.param, patience=20, most_waiting=8))
    yield company
    company.leave()


@pytest.mark.parametrize("company", [4], indirect=True)
def test_a_site_gets_all_slots_but_one_so_that_other_sites_do_not_wait(company: Company):
    company.ask("a", times=8)
    until(lambda: len(company.served) == 3)
    began = time.monotonic()
    with company.slots.slot("b"):
        assert time.monotonic() - began < 1
    assert company.served == ["a"] * 3


@pytest.mark.parametrize("company", [4], indirect=True)
def test_a_key_has_all_slots_but_one_whichever_sites_it_queries(company: Company):
    for site_id in ("a", "b", "c", "d", "e"):
        company.ask(site_id, key="one")
    until(lambda: len(company.served) == 3)
    with company.slots.slot("f", "another"):
        assert len(company.served) == 3


@pytest.mark.parametrize("company", [4], indirect=True)
def test_requests_without_a_key_share_no_limit(company: Company):
    for site_id in ("a", "b", "c", "d"):
        company.ask(site_id)
    until(lambda: sorted(company.served) == ["a", "b", "c", "d"])


@pytest.mark.parametrize("company", [1], indirect=True)
def test_with_one_slot_sites_take_turns(company: Company):
    company.ask("a")
    until(lambda: company.served == ["a"])
    company.ask("a", times=4)
    until(lambda: len(company.slots._waiting) == 4)
    company.ask("b", times=2)
    until(lambda: len(company.slots._waiting) == 6)
    for served in range(2, 8):
        company.end.release()
        until(lambda served=served: len(company.served) == served)
    assert "".join(company.served) == "ababaaa"


@pytest.mark.parametrize("company", [2], indirect=True)
def test_the_queries_of_a_site_wait_in_a_few_threads_only(company: Company):
    company.ask("a", times=12)
    until(lambda: len(company.refused) == 12 - 1 - 8)
    assert company.served == ["a"]
    assert set(company.refused) == {"busy"}


def test_a_query_that_waits_too_long_is_refused_and_leaves_nothing_behind():
    slots = QuerySlots(2, patience=0.05)
    with slots.slot("a"), pytest.raises(Refused), slots.slot("a"):
        pytest.fail("it is the second of two")
    with slots.slot("a"):
        pass
    assert not slots._waiting
    assert not slots._served
    assert not slots._of_site
    assert not slots._of_key
