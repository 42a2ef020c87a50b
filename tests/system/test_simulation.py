import re
from pathlib import Path

import msgspec
import pytest

from bench import plans
from bench.plans import Costs, plan
from bench.simulate import Hosts, Measurements, Rate, Times, main, simulate
from tests.support.running_system import ROOT

TIMES = Times(worker=30e-6, redis=7e-6, mongodb=14e-6, commit=0.01)


def rate_of(hosts: Hosts, times: Times, **more: int) -> float:
    return simulate(hosts, times, **more).stored_per_second


def write(folder: Path, *rates: float) -> Path:
    """What `make hosts` writes. `rates`: of one, two and three worker hosts, in events per second."""
    file, found = folder / "hosts.json", [Rate(n, rate, machine=1.2) for n, rate in enumerate(rates, start=1)]
    file.write_bytes(msgspec.json.encode(Measurements("2026-11-29", 2, 0.1, TIMES, TIMES, found)))
    return file


def test_a_host_with_a_share_of_a_core_stores_what_the_share_allows():
    assert rate_of(Hosts(1, cores=0.2), TIMES) == pytest.approx(0.2 / 30e-6, rel=0.02)


def test_what_a_host_uses_without_events_is_missing_from_its_share():
    idle = Times(worker=30e-6, redis=7e-6, mongodb=14e-6, commit=0.01, idle=0.05)
    assert rate_of(Hosts(1, cores=0.2), idle) == pytest.approx(0.15 / 30e-6, rel=0.02)
    with pytest.raises(ValueError, match=r"0\.050 cores"):
        simulate(Hosts(1, cores=0.05), idle)


def test_hosts_store_in_proportion_until_redis_is_used_up():
    one, two, ten = (rate_of(Hosts(n, cores=2), TIMES) for n in (1, 2, 10))
    assert two == pytest.approx(2 * one, rel=0.02)
    assert ten == pytest.approx(1 / 7e-6, rel=0.02)


def test_a_second_journal_lifts_the_limit_of_the_first():
    two = simulate(Hosts(10, cores=2), TIMES, journals=2, mongodb_cores=8)
    assert two.stored_per_second > 1.5 / 7e-6


def test_the_primary_of_mongodb_limits_all_hosts():
    slow = Times(worker=30e-6, redis=7e-6, mongodb=40e-6, commit=0.01)
    assert rate_of(Hosts(10, cores=2), slow, mongodb_cores=2) == pytest.approx(2 / 40e-6, rel=0.02)


def test_a_process_writes_one_batch_while_it_prepares_the_next():
    """Without that, a batch would take 30 ms of CPU and then 30 ms of waiting."""
    waiting = Times(worker=30e-6, redis=0, mongodb=0, commit=0.025)
    assert rate_of(Hosts(1, cores=1, processes=1), waiting) == pytest.approx(1 / 30e-6, rel=0.02)


def test_events_that_arrive_are_stored_at_their_rate_and_wait_longer_the_busier_the_hosts_are():
    calm, busy = (simulate(Hosts(1, cores=1), TIMES, rate=rate) for rate in (10_000, 31_000))
    assert calm.stored_per_second == pytest.approx(10_000, rel=0.02)
    assert busy.stored_per_second == pytest.approx(31_000, rel=0.02)
    assert TIMES.commit < calm.p99 < busy.p99


def test_delays_grow_without_end_if_more_events_arrive_than_the_hosts_store():
    run = simulate(Hosts(1, cores=1), TIMES, rate=50_000)
    assert run.stored_per_second == pytest.approx(1 / 30e-6, rel=0.02)
    assert run.p99 > 10


def test_make_simulate_compares_its_predictions_and_plans(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RATES", "2000")
    main(write(tmp_path, 3_300, 6_700, 9_900))
    printed = capsys.readouterr().out
    assert re.search(r"^\| 1 \| 3,\d\d\d \| 3,300 \| \+[01]\.\d% \| 1\.20 of 2 \|$", printed, re.M)
    assert "| computed | 2,000 events/s |" in printed
    assert re.search(r"^\| simulated: p99 until stored \| \d+ ms \|$", printed, re.M)


@pytest.mark.parametrize("rates", [(3_300, 6_700, 8_000), (4_300, 6_700, 9_900), (3_300, 6_700)])
def test_there_are_no_plans_if_a_prediction_is_wrong_or_missing(tmp_path, capsys, rates):
    with pytest.raises(SystemExit, match="No plans"):
        main(write(tmp_path, *rates))
    assert "computed" not in capsys.readouterr().out


def test_a_missing_file_is_refused_with_the_command_that_writes_it(tmp_path, capsys):
    with pytest.raises(SystemExit) as refused:
        main(tmp_path / "hosts.json")
    assert refused.value.code == 2
    assert "make hosts" in capsys.readouterr().err


def test_a_plan_leaves_each_part_idle_for_two_fifths_of_the_time():
    found = plan(100_000, Costs(ingestion=60e-6, append=6e-6, worker=50e-6, build=10e-6, redis=5e-6, mongodb=12e-6))
    assert (found.ingestion_processes, found.worker_hosts, found.journals, found.mongodb_cores) == (10, 5, 2, 2)


def test_prices_change_only_the_cost_of_a_plan(monkeypatch):
    before = plan(1_000).rows()
    cost = plan(1_000).price
    for name in ("CORE", "MEMORY", "DISK"):
        monkeypatch.setenv(name, "0")
    assert plan(1_000).price == 0 < cost
    assert [name for name, text in plan(1_000).rows().items() if text != before[name]] == [[*before][-1]]


def test_the_plans_and_costs_in_the_docs_are_those_of_the_program(capsys, monkeypatch):
    for name in ("RATES", "CORE", "MEMORY", "DISK"):
        monkeypatch.delenv(name, raising=False)
    plans.main()
    page = (ROOT / "docs/scaling.md").read_text()
    assert capsys.readouterr().out.strip() in page
    (costs,) = re.findall(r"^## What an event costs\n(.*?)^## ", page, re.M | re.S)
    said = [float(each) for each in re.findall(r"^\| .+? \| ([\d.]+) \| ", costs, re.M)]
    assert said == pytest.approx([1e6 * each for each in vars(Costs()).values()])


def test_make_has_the_command():
    assert "\nsimulate:" in (ROOT / "Makefile").read_text()
