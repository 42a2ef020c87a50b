"""Checks the geolocation file (GEOIP_DB) for the doctor. Never fails: an unreadable file becomes a finding."""

import re

import maxminddb
from maxminddb import InvalidDatabaseError

from analytics.diagnostics.finding import Finding, ok, problem, warning


def check_file(file: str) -> Finding:
    """Check the file at this path; "" means that GEOIP_DB is not set."""
    if not file:
        return ok("GEOIP_DB is not set. Events have places only if a CDN sends them.")
    try:
        with maxminddb.open_database(file) as reader:
            about = reader.metadata()
            reader.get("192.0.2.1")
    except (OSError, ValueError, InvalidDatabaseError) as error:
        return problem(
            f"GEOIP_DB cannot be read: {error}", "Put a file in MaxMind's format there (docs/enrichment.md)."
        )
    if not re.search("city|country", about.database_type, re.IGNORECASE):
        return warning(f"GEOIP_DB is of the type {about.database_type}.", "Use a file of cities or countries.")
    return ok(f"GEOIP_DB is a {about.database_type}.")
