"""/ops/workers: the queues, the workers and what they run. Flower shows past tasks."""

from flask import Response

from config.celery import QUEUES
from config.services import Services
from report_app.console.commands import Commands
from report_app.console.console_page import console_page
from report_app.page_access import address_of
from report_app.page_blueprint import PageBlueprint
from report_app.pages.rendering import show


def add_workers(blueprint: PageBlueprint, services: Services, commands: Commands, flower_port: int) -> None:
    @blueprint.get("/ops/workers")
    def workers() -> Response:
        """The page. The workers follow, because they take seconds to answer."""
        waiting = {queue: services.journal.tasks_waiting(queue) for queue in QUEUES}
        return console_page("workers", waiting=waiting, flower=address_of(flower_port))

    @blueprint.get("/parts/ops/workers")
    def part_workers() -> Response:
        workers = commands.answer("workers")["workers"]
        return show("console/part_workers.html", workers=workers, now=services.now().timestamp())
