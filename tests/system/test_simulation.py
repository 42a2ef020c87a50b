import pytest

from bench.simulate import Hosts, Times, stored_per_second

TIMES = Times(worker=30e-6, redis=7e-6, mongodb=14e-6, commit=0.01)


def test_a_host_with_a_share_of_a_core_stores_what_the_share_allows():
    assert stored_per_second(Hosts(1, cores=0.2), TIMES) == pytest.approx(0.2 / 30e-6, rel=0.02)


def test_hosts_store_in_proportion_until_redis_is_used_up():
    one, two, ten = (stored_per_second(Hosts(n, cores=2), TIMES) for n in (1, 2, 10))
    assert two == pytest.approx(2 * one, rel=0.02)
    assert ten == pytest.approx(1 / 7e-6, rel=0.02)


def test_the_primary_of_mongodb_limits_all_hosts():
    slow = Times(worker=30e-6, redis=7e-6, mongodb=40e-6, commit=0.01)
    assert stored_per_second(Hosts(10, cores=2), slow, mongodb_cores=2) == pytest.approx(2 / 40e-6, rel=0.02)


def test_a_process_writes_one_batch_while_it_prepares_the_next():
    """Without that, a batch would take 30 ms of CPU and then 30 ms of waiting."""
    waiting = Times(worker=30e-6, redis=0, mongodb=0, commit=0.025)
    assert stored_per_second(Hosts(1, cores=1, processes=1), waiting) == pytest.approx(1 / 30e-6, rel=0.02)
