"""User agents: the browser, system and device of a client, and whether it is a program. Pure.

It uses three external data sets (docs/enrichment.md). uap-core detects browsers and systems. isbot detects bots by
words, and crawler-user-agents by name. Results are cached, because a site sees the same few thousand user agents
repeatedly. The data sets are compiled at their first use (0.3 s).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

import regex
from is_bot import Bots
from ua_parser.core import Domain, Resolver
from ua_parser.loaders import load_builtins
from ua_parser.regex import Resolver as RegexResolver

from analytics.events.event import storable

_REMEMBERED = 10_000  # user agents, 1 kB each
_LONGEST = 1024  # characters that are checked; browsers have 150, and 500 inside apps
_LONGEST_NAME = 128  # characters, as in analytics/events/schema.py

# A browser, or a program that claims to be one: isbot recognises bots by what they add to it.
BROWSING = re.compile(r"Mozilla/|Opera/|Opera ", re.IGNORECASE)
# Any other user agent is a program that sends events itself, such as curl or a server's library, unless it matches one
# of these words. isbot would take any short name for a bot.
CRAWLING = re.compile(
    r"(?<!cu)bot|crawl|spider|slurp|scrap(?:e|y)|headless|lighthouse|preview|externalhit|monitor|uptime|scanner"
    r"|checker|validator|archiver|phantomjs",
    re.IGNORECASE,
)

# The words by which isbot and CRAWLING find a bot are also parts of other words: "BottleFinder", "QRScanner". Only a
# whole word identifies a bot, or "bot", "crawler" and "spider" at the end of a word, or a word for checking the web.
_PARTS = (
    "abuse|advisor|agent|analyzer|archive|audit|bot|capture|catch|check|classifier|crawl|detect|discovery|download|feed"
    "|fetcher|grab|headless|insight|inspect|java|library|lighthouse|manager|measure|monitor|news|node|optimize|parser"
    "|preview|proxy|radar|retriever|rss|scan|scrap|server|slurp|spider|splash|synthetic|tools|torrent|transcoder"
    "|uptime|url|validator"
)
ENDINGS = "(?:e?rs?|ors?|n?ers?|n?ing|s|ed|[ey]s?)?"
OF_A_BOT = (
    rf"(?:{_PARTS}){ENDINGS}|[a-z]*(?:bots?|crawl(?:er|ing)?s?|spiders?|headless(?:chrome)?)"
    rf"|(?:[a-z]*(?:link|network|proxy|seo|site|uptime|url|web))(?:{_PARTS}){ENDINGS}"
)
OTHER_WORD = re.compile(rf"(?<![a-z])(?!(?:{OF_A_BOT})(?![a-z]))[a-z]*(?:{_PARTS})[a-z]*", re.IGNORECASE)
# NATIVE_APP is an app of a phone, tablet or Mac, as its system's libraries and app developers write it. DECLARED is a
# program that states what it is or where to complain about it, as bots do.
NATIVE_APP = re.compile(
    r"CFNetwork/\S+ Darwin/|\bDalvik/|^(?!Mozilla)[^(/]+/[^(]*\((?:[^()]*; ?)?(?:iPhone|iPad|iOS|Android)\b"
)
DECLARED = re.compile(r"://|\(compatible; (?!MSIE)", re.IGNORECASE)

# Browsers that isbot takes for bots: Sogou's, and those of LG's and Hisense's televisions.
NO_BOTS = re.compile(r"SogouMobileBrowser|SogouMSE|WebAppManager|VIDAA/")

# AI crawlers that crawler-user-agents does not have, as their owners document them.
FURTHER_AI_CRAWLERS = (
    "Amazonbot", "Diffbot", "Google-Agent", "GoogleAgent-Mariner", "ICC-Crawler", "ImagesiftBot", "Manus-User",
    "NovaAct", "PanguBot", "Timpibot", "VelenPublicWebCrawler", "Webzio-Extended", "YouBot", "meta-externalfetcher",
    "meta-webindexer", "omgili",
)  # fmt: skip

# One name for each browser, on all devices.
_BROWSERS = {
    "Mobile Safari": "Safari", "Mobile Safari UI/WKWebView": "Safari WebView",
    "Chrome Mobile": "Chrome", "Chrome Mobile iOS": "Chrome", "Chrome Mobile WebView": "Chrome WebView",
    "Firefox Mobile": "Firefox", "Firefox iOS": "Firefox", "Edge Mobile": "Edge",
    "Opera Mobile": "Opera", "Opera Touch": "Opera", "IE": "Internet Explorer", "IE Mobile": "Internet Explorer",
    "DuckDuckGo Mobile": "DuckDuckGo", "Brave Mobile": "Brave", "Google": "Google App",
    "QQ Browser Mobile": "QQ Browser", "Ecosia Android": "Ecosia", "Ecosia iOS": "Ecosia",
}  # fmt: skip
SYSTEMS = {"Mac OS X": "macOS"}

# By the content of the user agent in lower case; the first match applies. A PC with Windows may contain "Tablet PC" and
# "Touch", and a Chromebook "Android". Android without "mobile" is a tablet, by Google's rule.
_DEVICES = (
    ("Desktop", re.compile(
        r"windows nt (?!.*(?:xbox|wpdesktop|windows phone|smart-?tv))|\bcros\b|; chromebook|_cheets"
    )),
    ("TV", re.compile(
        r"\btv\b|smart-?tv|hbbtv|googletv|appletv|tvos|androidtv|\baft[a-z]|bravia|web0s|webos\.tv|netcast|netrange"
        r"|\bvidaa|roku|crkey|\bmi ?box|tvbox|set-top|aquosbrowser|viera|ce-html|large screen|-atv\b"
    )),
    ("Console", re.compile(r"playstation|xbox|nintendo")),
    ("Tablet", re.compile(
        r"ipad|tablet|kindle|playbook|touchpad|\bsm-[tpx]\d|\bgt-p\d|; ?kf[a-z]{2,5}(?=\)|;| build)"
    )),
    ("Mobile", re.compile(
        r"mobi|iphone|ipod|phone|blackberry|\bbb10\b|opera mini|symbian|j2me|midp|\bkaios\b|wpdesktop"
    )),
    ("Tablet", re.compile(r"android|silk/")),
    ("Desktop", re.compile(r"windows|macintosh|mac os|linux|x11|cros|bsd|sunos")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Agent:
    """What a user agent says, as it may be stored. Versions are "142.0" or "10". None means unknown. `ai_crawler` is
    the name of a bot that collects texts for AI models or assistants.
    """

    browser: str | None = None
    browser_version: str | None = None
    os: str | None = None
    os_version: str | None = None
    device: str | None = None
    is_bot: bool = False
    ai_crawler: str | None = None


@lru_cache(maxsize=_REMEMBERED)
def agent_of(user_agent: str) -> Agent:
    """Return the browser, system and device. An empty user agent is unknown and not a bot, because a site's own
    programs often send none.
    """
    text = storable(user_agent[:_LONGEST])  # the parser rejects half of a surrogate pair
    if _is_bot(text):
        return Agent(is_bot=True, ai_crawler=_ai_crawler(text))
    found = _parser()(text, Domain.USER_AGENT | Domain.OS)
    browser, system = found.user_agent, found.os
    return Agent(
        browser=_BROWSERS.get(browser.family, browser.family)[:_LONGEST_NAME] if browser else None,
        browser_version=_version(browser.major, browser.minor) if browser else None,
        os=SYSTEMS.get(system.family, system.family)[:_LONGEST_NAME] if system else None,
        os_version=_version(system.major, system.minor) if system else None,
        device=_device(text.lower()),
    )


def _is_bot(text: str) -> bool:
    if not _has_word_of_bot(text):  # the names of many AI crawlers have no such word
        return _named_as_ai_crawler().search(text) is not None and not NATIVE_APP.search(text)
    if DECLARED.search(text) or _is_named_bot()(text):
        return True
    return not NATIVE_APP.search(text) and _has_word_of_bot(OTHER_WORD.sub("", text))


def _has_word_of_bot(text: str) -> bool:
    if not BROWSING.match(text):
        return CRAWLING.search(text) is not None
    return _bots().has_word_in(text) and not NO_BOTS.search(text)


def _ai_crawler(text: str) -> str | None:
    return next((name for name, pattern in ai_crawlers().items() if pattern.search(text)), None)


def _device(text: str) -> str | None:
    return next((device for device, form in _DEVICES if form.search(text)), None)


def _version(major: str | None, minor: str | None) -> str | None:
    return (f"{major}.{minor}" if minor else major)[:_LONGEST_NAME] if major else None


@cache
def _parser() -> Resolver:
    return RegexResolver(load_builtins())


@cache
def _is_named_bot() -> Callable[[str], bool]:
    from crawleruseragents import is_crawler  # noqa: PLC0415 a process that never needs it saves 5 MB

    found: Callable[[str], bool] = is_crawler
    return found


@cache
def ai_crawlers() -> Mapping[str, re.Pattern[str]]:
    """Return the known AI crawlers, by a name without spaces: "GPTBot", "ClaudeBot"."""
    from crawleruseragents import CRAWLER_USER_AGENTS_DATA  # noqa: PLC0415 as above

    patterns = (each["pattern"] for each in CRAWLER_USER_AGENTS_DATA if "ai-crawler" in each["tags"])
    return {_name_in(pattern): re.compile(pattern) for pattern in (*patterns, *FURTHER_AI_CRAWLERS)}


@cache
def _named_as_ai_crawler() -> re.Pattern[str]:
    """The names of AI crawlers as whole words: "Devin", but not "Devine"."""
    patterns = "|".join(pattern.pattern for pattern in ai_crawlers().values())
    return re.compile(rf"(?<![A-Za-z])(?:{patterns})(?![a-z])")


def _name_in(pattern: str) -> str:
    """The words with which a pattern begins, such as ClaudeBot of "[cC]laude[bB]ot" and PerplexityBot of
    "PerplexityBot\\/".
    """
    found = re.match(r"[\w -]+", re.sub(r"\[\w(\w)\]", r"\1", pattern))
    return found[0].replace(" ", "-") if found else "other"


class BotPatterns:
    """isbot's patterns. It joins them into one expression of 209 alternatives, which takes 300 µs for the user agent of
    a browser. Looking for each by itself takes 20.
    """

    def __init__(self) -> None:
        self._bots = Bots()
        every = sorted(self._bots.patterns)
        self._words = [each for each in every if regex.escape(each, special_only=True) == each]
        at_begin = [each for each in every if each.startswith("^")]
        self._at_begin = regex.compile("|".join(at_begin), regex.IGNORECASE)
        others = set(every) - {*self._words, *at_begin}
        self._others = [regex.compile(each, regex.IGNORECASE) for each in sorted(others)]

    def has_word_in(self, text: str) -> bool:
        """Whether any pattern matches, as Bots.is_bot says."""
        if not text.isascii():  # other letters may be equal to ASCII if case is ignored
            return bool(self._bots.is_bot(text))
        lower = text.lower()
        return (
            any(word in lower for word in self._words)
            or self._at_begin.match(text) is not None
            or any(each.search(text) for each in self._others)
        )


@cache
def _bots() -> BotPatterns:
    return BotPatterns()
