"""Paths that a site chooses for the tracker and for its events, because some browsers block the usual ones.

They answer as /js/footfall.js and /events do. A path that the app itself has is never a site's path.
"""

from flask import Flask, request
from werkzeug.exceptions import NotFound

from analytics.sites.registry import SiteRegistry


def add_site_paths(app: Flask, sites: SiteRegistry, on_loop: set[str]) -> None:
    """`on_loop`: paths whose requests run on the event loop. Paths of sites are added when they are first used."""

    @app.before_request
    def route_site_path() -> None:
        if not isinstance(request.routing_exception, NotFound):
            return
        if path := _usual_path(sites, request.method, request.path):
            on_loop.add(request.path)
            request.url_rule, _ = app.url_map.bind_to_environ(request.environ).match(path, return_rule=True)
            request.view_args, request.routing_exception = {}, None
        else:
            on_loop.discard(request.path)


def _usual_path(sites: SiteRegistry, method: str, path: str) -> str | None:
    if method in ("GET", "HEAD"):
        return "/js/footfall.js" if sites.is_script(path) else None
    return "/events" if method in ("POST", "OPTIONS") and sites.is_endpoint(path) else None
