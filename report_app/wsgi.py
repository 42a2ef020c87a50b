"""The WSGI app that gunicorn serves. Imported after the fork. It connects at the first query."""

from dataclasses import replace

from analytics.access.key_ring import make_api_keys
from analytics.events.store import EventStore
from analytics.journal.dead_letters import DeadLetterStore
from analytics.journal.journal import make_journal
from analytics.journal.ledger import Ledger
from analytics.privacy.eraser import make_eraser
from analytics.privacy.local_copies import Forgetter
from analytics.reports.engine import make_reports
from analytics.reports.realtime import RealtimeReader
from analytics.segments.engine import make_segments
from analytics.sites.registry import make_sites
from config.clients import make_database, make_redis
from config.logs import configure_logging
from config.settings import load_settings
from report_app import Services, create_app, now

settings = load_settings()
configure_logging(settings)
database = make_database(settings)
reports = make_reports(settings, database)
of_reports = replace(settings, duckdb_memory=settings.report_memory)
eraser = make_eraser(settings, database, make_segments(of_reports, database))
services = Services(
    reports=reports,
    realtime=RealtimeReader(database, settings.stats_time_limit, now),
    events=EventStore(database),
    sites=make_sites(settings, database),
    api_keys=make_api_keys(settings, database),
    dead_letters=DeadLetterStore(database),
    journal=make_journal(settings),
    ledger=Ledger(make_redis(settings), database, settings.replicas),
    eraser=eraser,
)
Forgetter(reports.reader.segments, eraser.erasures, reports.reader).start()
app = create_app(settings, services)
