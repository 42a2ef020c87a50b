"""The ingestion app: HTTP in. It receives hits on port INGESTION_PORT."""

from flask import Flask, request
from flask_cors import CORS

from analytics.access.store import METRICS_SCOPE, make_key_ring
from config.settings import Settings
from ingest_app.api_description import INGEST_API
from ingest_app.cdn_headers import CDNS
from ingest_app.collector import Collector
from ingest_app.drop_in import add_vendor_error_fields
from ingest_app.events import events_blueprint
from ingest_app.hit import SENDER
from ingest_app.opt_out import opting_out_blueprint
from ingest_app.plausible import plausible_blueprint
from ingest_app.segment_com import segment_blueprint
from ingest_app.tracker import tracker_blueprint
from ingest_app.umami import umami_blueprint
from web.app import new_app
from web.auth import Auth
from web.docs import docs_blueprint
from web.front_page import front_page_blueprint
from web.metrics import metrics_blueprint
from web.rate_limits import ADDRESS, ADDRESS_BYTES, ADDRESS_EVENTS

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


def create_app(settings: Settings, collector: Collector) -> Flask:
    app = new_app(__name__, {"redis": collector.check}, settings.max_body_bytes, settings.trusted_proxies)
    app.config["PLACE_HEADERS"] = CDNS.get(settings.place_headers)
    if any(map(collector.limits.holds, (ADDRESS, ADDRESS_EVENTS, ADDRESS_BYTES))):

        @app.before_request
        def limit_address() -> None:
            if request.path not in UNLIMITED:
                request.environ[SENDER] = collector.check_address_limit(request.remote_addr or "")

    CORS(app, origins="*", methods=["POST"], send_wildcard=True, expose_headers=["Retry-After"], max_age=86400)
    add_vendor_error_fields(app)
    app.register_blueprint(events_blueprint(collector))
    app.register_blueprint(tracker_blueprint())
    app.register_blueprint(opting_out_blueprint())
    app.register_blueprint(plausible_blueprint(collector))
    app.register_blueprint(umami_blueprint(collector))
    app.register_blueprint(segment_blueprint(collector))
    auth = Auth(settings, make_key_ring(settings).find)
    app.register_blueprint(metrics_blueprint({"redis": collector.gauges}, auth.needs(METRICS_SCOPE)))
    app.register_blueprint(docs_blueprint(app, INGEST_API))
    app.register_blueprint(front_page_blueprint("Footfall: events in", _FRONT_PAGE, _LINKS))
    return app
