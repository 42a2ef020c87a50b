"""The console at /ops: pages on which owners watch and repair a deployment. Only they may open them."""

from config.services import Services
from config.settings import Settings
from report_app.console.access import Owners
from report_app.console.commands import Commands
from report_app.console.dead_letters import add_dead_letters
from report_app.console.keys import add_keys
from report_app.console.ledger import add_ledger
from report_app.console.notifications import add_notifications
from report_app.console.rates import add_rates
from report_app.console.segments import add_segments
from report_app.console.sites import add_sites
from report_app.console.start import add_start
from report_app.console.users import add_users
from report_app.console.workers import add_workers
from report_app.page_blueprint import PageBlueprint


def console_blueprint(settings: Settings, services: Services) -> PageBlueprint:
    blueprint, commands, clock = PageBlueprint("console", __name__), Commands(settings), services.now
    blueprint.before_request(Owners().check)
    add_start(blueprint, services, commands)
    add_ledger(blueprint, services.ledger, clock)
    add_dead_letters(blueprint, services.dead_letters, services.journal, clock)
    add_rates(blueprint, services.samples)
    add_workers(blueprint, services, commands, settings.flower_port)
    add_segments(blueprint, services.segments)
    add_sites(blueprint, services.sites, services.segments.store, settings.ingestion_port)
    add_notifications(blueprint, services.notifications, services.message_writer, clock)
    add_keys(blueprint, services.api_keys, clock)
    add_users(blueprint, services.accounts, services.sites)
    return blueprint
