"""Spam referrers: sites that send false hits so that their names appear in reports.

A host is spam if it, or a host above it, is in a list. The built-in list is short and holds the most common hosts of
many years. A file with one host in each line can add a longer list, such as Matomo's (docs/enrichment.md).
"""

from pathlib import Path

from analytics.enrichment.watched_file import WatchedFile

_KNOWN = frozenset((
    "100dollars-seo.com", "7makemoneyonline.com", "auto-seo-service.org", "best-seo-offer.com",
    "best-seo-solution.com", "bestwebsitesawards.com", "blackhatworth.com", "buttons-for-website.com",
    "buttons-for-your-website.com", "buy-cheap-online.info", "cenoval.ru", "darodar.com", "econom.co",
    "event-tracking.com", "floating-share-buttons.com", "free-share-buttons.com",
    "free-social-buttons.com", "free-video-tool.com", "get-free-traffic-now.com", "guardlink.org",
    "hulfingtonpost.com", "humanorightswatch.org", "ilovevitaly.com", "ilovevitaly.ru", "iskalko.ru", "kambasoft.com",
    "keywords-monitoring-your-success.com", "lumb.co", "luxup.ru", "makemoneyonline.com", "o-o-6-o-o.com",
    "o-o-8-o-o.com", "priceg.com", "ranksonic.info", "ranksonic.org", "rankings-analytics.com", "savetubevideo.com",
    "semalt.com", "semaltmedia.com", "sharebutton.net", "share-buttons.xyz", "simple-share-buttons.com",
    "sitevaluation.org", "social-buttons.com", "success-seo.com", "theguardlan.com", "traffic2cash.xyz",
    "traffic2money.com", "trafficmonetize.org", "trafficmonetizer.org", "videos-for-your-business.com",
    "webmonetizer.net",
))  # fmt: skip


class SpamReferrers:
    """The hosts of spam referrers. `file` adds more hosts; "" adds none."""

    def __init__(self, file: str = "") -> None:
        self._file: WatchedFile[frozenset[str]] | None = WatchedFile(Path(file), _read) if file else None

    def has(self, hostname: str) -> bool:
        more = self._file.get() if self._file else None
        part = hostname
        while "." in part:
            if part in _KNOWN or (more and part in more):
                return True
            part = part.partition(".")[2]
        return False


def _read(path: Path) -> frozenset[str]:
    lines = (line.strip().lower() for line in path.read_text(encoding="utf-8").splitlines())
    return frozenset(line.removeprefix("www.") for line in lines if "." in line and not line.startswith("#"))
