"""The reporting app: HTTP out. It answers queries, and administers sites and keys."""

from collections import Counter
from functools import partial

import structlog
from flask import Flask, Response
from prometheus_client import Metric

from analytics.access.api_key import (
    ADMIN_SCOPE,
    DEAD_LETTERS_SCOPE,
    METRICS_SCOPE,
    PERSONS_SCOPE,
    READ_SCOPE,
    SITES_SCOPE,
)
from analytics.accounts.authenticator import Authenticator
from analytics.journal.dead_letters import DeadLetterStore, LetterFilter
from config.metrics import dead_letter_gauge
from config.services import Services
from config.session_key import session_keys
from config.settings import Settings, read_origins
from report_app.accounts import accounts_blueprint
from report_app.accounts.attempts import SIGN_IN_RATES, Attempts
from report_app.api_description import REPORT_API
from report_app.api_keys import keys_blueprint
from report_app.assistants.routes import assistants_blueprint
from report_app.console import console_blueprint
from report_app.cors import allow_origins
from report_app.data_subjects import erasure_blueprint
from report_app.dead_letters import dead_letters_blueprint
from report_app.errors import register_report_errors
from report_app.explorations import explorations_blueprint
from report_app.export import export_blueprint
from report_app.ledger import ledger_blueprint
from report_app.notifications import notifications_blueprint
from report_app.page_access import protect_pages
from report_app.pages.assets import asset_url, assets_blueprint
from report_app.pages.badge import badge_blueprint
from report_app.pages.overview import overview_page
from report_app.pages.page_reports import PageServices
from report_app.pages.routes import pages_blueprint
from report_app.plausible_v1.sites import in_parameters, sites_v1_blueprint
from report_app.plausible_v1.stats import stats_v1_blueprint
from report_app.query import query_blueprint
from report_app.session_cookie import use_session_cookie
from report_app.site_data import site_data_blueprint
from report_app.site_lookup import SiteLookup
from report_app.sites import sites_blueprint
from report_app.stats import stats_blueprint
from report_app.translation import use_translations
from report_app.visitors import visitors_blueprint
from web.app import new_app, trust_proxies
from web.auth import Auth, in_path, in_question
from web.docs import docs_blueprint
from web.front_page import front_page_blueprint
from web.metrics import metrics_blueprint
from web.rate_limits import RateLimits

log = structlog.get_logger()


_FRONT_PAGE = (
    "This server answers reports about websites, for example GET /stats?site_id=..., and manages sites and API keys."
)
_LINKS = {
    "docs": "API documentation, to read and to try",
    "openapi.json": "API description in OpenAPI 3.1",
    "readyz": "Whether the stores answer",
}


def create_app(settings: Settings, services: Services) -> Flask:
    reports, sites, clock, letters = services.reports, services.sites, services.now, services.dead_letters
    needs = Auth(settings, services.api_keys.find).needs
    auth, of_persons = (needs(scope, in_question, sites.id_of) for scope in (READ_SCOPE, PERSONS_SCOPE))
    site_called = SiteLookup(sites, required=settings.is_production)
    app = new_app(__name__, {"mongodb": reports.check}, settings.max_body_bytes)
    app.config["ON_LOOP"] = {"/healthz"}
    register_report_errors(app)
    app.after_request(_not_cached)
    allow_origins(app, read_origins(settings.report_cors_origins))
    app.register_blueprint(stats_blueprint(reports, services.realtime, site_called, auth, clock))
    app.register_blueprint(ledger_blueprint(services.ledger, site_called, auth, clock))
    app.register_blueprint(query_blueprint(reports, site_called, auth, clock))
    app.register_blueprint(explorations_blueprint(reports, site_called, auth, clock))
    app.register_blueprint(stats_v1_blueprint(reports, services.realtime, site_called, auth, clock))
    app.register_blueprint(sites_v1_blueprint(sites, services.sharing, needs(SITES_SCOPE, in_parameters, sites.id_of)))
    app.register_blueprint(assistants_blueprint(reports, sites, site_called, needs(READ_SCOPE, None), clock))
    app.register_blueprint(visitors_blueprint(reports, site_called, of_persons, clock))
    exports = max(1, settings.web_threads // 2)
    app.register_blueprint(export_blueprint(services.events, reports, site_called, of_persons, clock, at_once=exports))
    app.register_blueprint(sites_blueprint(sites, services.ledger, needs(SITES_SCOPE, in_path)))
    app.register_blueprint(keys_blueprint(services.api_keys, needs(ADMIN_SCOPE), clock))
    app.register_blueprint(dead_letters_blueprint(letters, services.journal, needs(DEAD_LETTERS_SCOPE, in_question)))
    app.register_blueprint(erasure_blueprint(services.eraser, needs(ADMIN_SCOPE)))
    app.register_blueprint(
        notifications_blueprint(services.notifications, services.message_writer, needs(ADMIN_SCOPE), clock)
    )
    app.register_blueprint(metrics_blueprint({"mongodb": lambda: [_count(letters)]}, needs(METRICS_SCOPE)))
    app.register_blueprint(docs_blueprint(app, REPORT_API))
    pages = PageServices(
        reports,
        services.realtime,
        services.ledger,
        sites,
        site_called,
        clock,
        settings.ingestion_port,
        services.funnels,
        services.annotations,
    )
    overview = partial(overview_page, pages)
    app.register_blueprint(front_page_blueprint("Footfall: reports", _FRONT_PAGE, _LINKS, overview))
    _add_pages(app, settings, services, pages)
    if settings.reports_are_open:
        log.warning("reports_opened", listening_on=settings.published_on or settings.bind_host, close_with="REPORT_KEY")
    trust_proxies(app, settings.trusted_proxies)
    return app


def _add_pages(app: Flask, settings: Settings, services: Services, pages: PageServices) -> None:
    """The routes that a session protects, and not a key."""
    authenticator = Authenticator(services.accounts, services.sessions, services.now)
    attempts = Attempts(RateLimits(services.rate_storage, SIGN_IN_RATES), services.salts, services.now)
    sharing, site_called = services.sharing, pages.site_called
    use_session_cookie(app, session_keys(settings))
    is_open = settings.reports_are_open
    protect_pages(app, authenticator, sharing, site_called.id_of, reports_are_open=is_open)
    app.jinja_env.globals["asset"] = asset_url
    use_translations(app, settings.default_language)
    app.register_blueprint(assets_blueprint())
    app.register_blueprint(pages_blueprint(pages))
    app.register_blueprint(badge_blueprint(pages, sharing))
    app.register_blueprint(accounts_blueprint(authenticator, sharing, site_called, attempts, services.now))
    app.register_blueprint(site_data_blueprint(services.segments, services.uploads, services.imports, site_called))
    app.register_blueprint(console_blueprint(settings, services))


def _not_cached(response: Response) -> Response:
    """Reports are private and change with each request, so nothing caches them.

    Routes that may be cached set the header.
    """
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _count(dead_letters: DeadLetterStore) -> Metric:
    by_reason: Counter[str] = Counter()
    for row in dead_letters.count(LetterFilter()):
        by_reason[row.reason] += row.count
    return dead_letter_gauge(by_reason.items())
