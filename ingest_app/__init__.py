"""The ingestion app: HTTP in. It receives hits on port INGESTION_PORT."""

from flask import Flask, request

from analytics.access.api_key import METRICS_SCOPE
from analytics.journal.journal import Line
from config.services import Services
from config.settings import Settings
from ingest_app.api_description import INGEST_API
from ingest_app.cdn_headers import CDNS
from ingest_app.collector import make_collector
from ingest_app.cors import answer_preflights
from ingest_app.drop_in import add_vendor_error_fields
from ingest_app.events import events_blueprint
from ingest_app.group_commit import GroupCommit
from ingest_app.hit import PLACE_HEADERS
from ingest_app.hot_routes import HOT_ROUTES, HotRoutes
from ingest_app.opt_out import opting_out_blueprint
from ingest_app.plausible import plausible_blueprint
from ingest_app.segment_com import segment_blueprint
from ingest_app.site_paths import add_site_paths
from ingest_app.tracker import tracker_blueprint
from ingest_app.umami import umami_blueprint
from tasks.events import WakeUps
from web.app import new_app, trust_proxies
from web.auth import Auth
from web.commits import answer_failed_commits
from web.docs import docs_blueprint
from web.errors import ANY_ORIGIN
from web.front_page import front_page_blueprint
from web.lean_flask import NoSessions
from web.metrics import metrics_blueprint

# Requests of these paths run on the event loop (web/gunicorn_worker.py).
_SCRIPTS = ("/js/footfall.js", "/js/footfall.extras.js", "/js/script.js", "/script.js")
ON_LOOP = frozenset({*HOT_ROUTES, *_SCRIPTS, "/events", "/pixel.gif", "/healthz"})
UNLIMITED = {"/healthz", "/readyz", "/metrics"}  # monitoring requests these paths all the time

_FRONT_PAGE = (
    "This server receives the events of websites. POST /event accepts one event, POST /events accepts several. "
    "Reports are on another port."
)
_LINKS = {
    "docs": "API documentation, to read and to try",
    "openapi.json": "API description in OpenAPI 3.1",
    "js/footfall.js": "The tracker script for your pages",
    "readyz": "Whether the stores answer",
}


def create_app(
    settings: Settings, services: Services, wake_ups: WakeUps, commits: type[GroupCommit[Line]] = GroupCommit
) -> Flask:
    collector = make_collector(settings, services, wake_ups, commits)
    app = new_app(__name__, {"redis": collector.check}, settings.max_body_bytes, ANY_ORIGIN)
    app.session_interface = NoSessions()
    on_loop = set(ON_LOOP)
    app.config |= {"ON_LOOP": on_loop, "USE_LOOP": collector.use_loop}
    place_headers = CDNS.get(settings.place_headers)
    answer_failed_commits(app)

    @app.before_request
    def limit_address() -> None:
        environ = request.environ
        environ[PLACE_HEADERS] = place_headers
        if environ["PATH_INFO"] not in UNLIMITED:
            collector.charge_address(environ)

    add_site_paths(app, services.registry, on_loop)
    answer_preflights(app)
    add_vendor_error_fields(app)
    app.register_blueprint(events_blueprint(collector))
    app.register_blueprint(tracker_blueprint())
    app.register_blueprint(opting_out_blueprint())
    app.register_blueprint(plausible_blueprint(collector))
    app.register_blueprint(umami_blueprint(collector))
    app.register_blueprint(segment_blueprint(collector))
    auth = Auth(settings, services.key_ring.find)
    app.register_blueprint(metrics_blueprint({"redis": collector.gauges}, auth.needs(METRICS_SCOPE)))
    app.register_blueprint(docs_blueprint(app, INGEST_API))
    app.register_blueprint(front_page_blueprint("Footfall: events in", _FRONT_PAGE, _LINKS))
    app.config["IN_FRONT"] = HotRoutes(collector, place_headers, settings.max_body_bytes).answer
    trust_proxies(app, settings.trusted_proxies)
    return app
