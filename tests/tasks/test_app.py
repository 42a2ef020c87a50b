"""Each process that runs tasks has services of its own."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from threading import Barrier

from tasks.app import services


def test_threads_that_ask_together_get_the_same_services():
    barrier = Barrier(8)

    def ask(_: int) -> object:
        barrier.wait()
        return services()

    with ThreadPoolExecutor(8) as pool:
        assert len({id(each) for each in pool.map(ask, range(8))}) == 1


def test_a_forked_process_makes_its_own_services():
    ours = services()
    here, there = multiprocessing.Pipe()

    def ask(answer: Connection) -> None:
        answer.send(services() is ours)

    child = multiprocessing.get_context("fork").Process(target=ask, args=(there,))
    child.start()
    assert here.poll(30)
    assert here.recv() is False
    child.join()
    assert child.exitcode == 0
    assert services() is ours
