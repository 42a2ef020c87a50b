"""Sources: who sent a visitor, from the referring page, the link's parameters, or an advertisement's click id.

A source has a name, such as Google, and a kind, from which the channel is derived (channels.py). There are two tables.
Ghost maintains the first one (data/referrers.json, docs/enrichment.md). The second one, in this module, has priority.
It holds missing hosts, and kinds that Ghost does not have: videos, shops and AI assistants.
"""

import json
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

from analytics.urls import plain_host, split_url

Kind = Literal["search", "social", "video", "shopping", "ai", "email", "display", "audio", "sms", "other"]

TABLE = Path(__file__).parent / "data" / "referrers.json"
SOURCE_KINDS: dict[str, Kind] = {"search": "search", "social": "social", "email": "email", "paid": "display"}
_REMEMBERED, _LONGEST_REMEMBERED = 10_000, 300  # hosts and referrers; characters of a referrer
LONGEST_REFERRER = 2048  # characters, as in analytics/events/schema.py

REFERRER_SCHEMES = ("http", "https", "android-app", "")
NO_HOSTS = ("null", "undefined", "none")
# A host without a scheme that is not a file: `news.example/post`, but neither `index.html` nor `a@b.example`.
BARE_HOST = re.compile(
    r"[^\s/@:.]+(?:\.[^\s/@:.]+)*\.(?!(?:html?|php|aspx?|jsp|cgi)(?:[/:]|\Z))[^\W\d_][^\s/@:.]+\.?(?::\d+)?(?:/|\Z)",
    re.IGNORECASE,
)
# What follows a path: parameters, and a query or a fragment that was percent-encoded any number of times.
AFTER_PATH = re.compile(r";|%(?:25)*(?:3F|23|3B)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Referrer:
    """A referrer. `text` is the part that is stored, without query, fragment and credentials. `hostname` is in the form
    of Site.domains, or is an app's name.
    """

    text: str
    hostname: str
    path: str


@dataclass(frozen=True, slots=True)
class TrafficSource:
    name: str
    kind: Kind = "other"


AMAZONS = ("co.uk", "de", "fr", "it", "es", "ca", "co.jp", "com.br", "com.mx", "nl", "se", "pl", "in", "com.au",
           "com.tr", "ae", "sa", "sg", "eg", "com.be")  # fmt: skip
EBAYS = ("co.uk", "de", "fr", "it", "es", "ca", "com.au", "nl", "pl", "at", "ch", "ie")

# Hosts, without www. They also match the hosts below them.
HOSTS: dict[Kind, dict[str, str]] = {
    "ai": {
        "chatgpt.com": "ChatGPT", "chat.openai.com": "ChatGPT", "openai.com": "ChatGPT",
        "perplexity.ai": "Perplexity", "claude.ai": "Claude", "gemini.google.com": "Gemini",
        "bard.google.com": "Gemini", "copilot.microsoft.com": "Copilot", "copilot.com": "Copilot",
        "copilot.cloud.microsoft": "Copilot", "chat.deepseek.com": "DeepSeek", "deepseek.com": "DeepSeek",
        "grok.com": "Grok", "x.ai": "Grok", "meta.ai": "Meta AI", "chat.mistral.ai": "Le Chat", "poe.com": "Poe",
        "you.com": "You.com", "phind.com": "Phind", "chat.qwen.ai": "Qwen", "kimi.com": "Kimi",
        "kimi.moonshot.cn": "Kimi", "doubao.com": "Doubao", "yiyan.baidu.com": "Ernie", "character.ai": "Character.AI",
        "huggingface.co/chat": "HuggingChat", "duck.ai": "Duck.ai", "lumo.proton.me": "Lumo",
        "notebooklm.google.com": "NotebookLM", "pi.ai": "Pi", "felo.ai": "Felo", "manus.im": "Manus",
        "genspark.ai": "Genspark",
    },
    "video": {
        "youtube.com": "YouTube", "m.youtube.com": "YouTube", "youtu.be": "YouTube", "vimeo.com": "Vimeo",
        "dailymotion.com": "Dailymotion", "twitch.tv": "Twitch", "bilibili.com": "Bilibili", "rumble.com": "Rumble",
        "odysee.com": "Odysee", "netflix.com": "Netflix", "hulu.com": "Hulu", "disneyplus.com": "Disney+",
        "iqiyi.com": "iQIYI", "youku.com": "Youku", "nicovideo.jp": "Niconico", "rutube.ru": "Rutube",
    },
    "shopping": {
        "amazon.com": "Amazon", "ebay.com": "eBay", "etsy.com": "Etsy", "aliexpress.com": "AliExpress",
        "alibaba.com": "Alibaba", "walmart.com": "Walmart", "target.com": "Target", "shopify.com": "Shopify",
        "shop.app": "Shopify", "temu.com": "Temu", "shopping.google.com": "Google Shopping", "shopee.com": "Shopee",
        "mercadolibre.com": "Mercado Libre", "mercadolivre.com.br": "Mercado Libre", "rakuten.com": "Rakuten",
        "rakuten.co.jp": "Rakuten", "zalando.com": "Zalando", "allegro.pl": "Allegro", "flipkart.com": "Flipkart",
        "idealo.de": "idealo", "pricerunner.com": "PriceRunner", "taobao.com": "Taobao", "jd.com": "JD.com",
        "ozon.ru": "Ozon", "wildberries.ru": "Wildberries",
        **dict.fromkeys((f"amazon.{end}" for end in AMAZONS), "Amazon"),
        **dict.fromkeys((f"ebay.{end}" for end in EBAYS), "eBay"),
    },
    "social": {
        "tiktok.com": "TikTok", "snapchat.com": "Snapchat", "t.me": "Telegram", "telegram.org": "Telegram",
        "web.telegram.org": "Telegram", "discord.com": "Discord", "discordapp.com": "Discord", "slack.com": "Slack",
        "teams.microsoft.com": "Microsoft Teams", "x.com": "Twitter", "vk.com": "Vkontakte", "vk.ru": "Vkontakte",
        "lnkd.in": "LinkedIn", "lobste.rs": "Lobsters", "lemmy.world": "Lemmy", "wechat.com": "WeChat",
        "weixin.qq.com": "WeChat", "line.me": "LINE", "xiaohongshu.com": "Xiaohongshu", "dev.to": "DEV Community",
        "producthunt.com": "Product Hunt", "nextdoor.com": "Nextdoor", "messenger.com": "Facebook",
        "digg.com": "Digg", "go.bsky.app": "Bluesky", "threads.com": "Threads", "threads.net": "Threads",
        "chat.zalo.me": "Zalo",
    },
    "search": {
        "kagi.com": "Kagi", "startpage.com": "Startpage", "mojeek.com": "Mojeek", "swisscows.com": "Swisscows",
        "presearch.com": "Presearch", "coccoc.com": "Cốc Cốc", "petalsearch.com": "Petal Search", "so.com": "360.cn",
        "m.sm.cn": "Shenma", "search.marginalia.nu": "Marginalia", "lite.duckduckgo.com": "DuckDuckGo",
        "websearch.rakuten.co.jp": "Rakuten",
        **dict.fromkeys(("ya.ru", *(f"yandex.{end}" for end in ("by", "com.tr", "eu", "kz", "uz"))), "Yandex"),
    },
    "email": {
        "mail.proton.me": "Proton Mail", "app.fastmail.com": "Fastmail", "outlook.office.com": "Outlook.com",
        "outlook.office365.com": "Outlook.com", "webmail.gmx.net": "GMX Mail",
    },
    "audio": {
        "spotify.com": "Spotify", "open.spotify.com": "Spotify", "soundcloud.com": "SoundCloud",
        "podcasts.apple.com": "Apple Podcasts", "overcast.fm": "Overcast", "deezer.com": "Deezer",
    },
    "other": {
        "github.com": "GitHub", "stackoverflow.com": "Stack Overflow", "news.google.com": "Google News",
        "sourceforge.net": "SourceForge", "medium.com": "Medium", "getpocket.com": "Pocket",
    },
}  # fmt: skip

# Prefixes below a search engine's host that also search, such as `cn.` and `uk.search.`. Its `docs.` and `news.` are
# pages.
SEARCHES = re.compile(r"((www?\d?|m|mobile|touch|search|[a-z]?search|images?|lite|html|start|safe|r|s|[a-z]{2})\.)*")

# Android apps send their own name where a browser sends a page.
APPS: dict[str, TrafficSource] = {
    "com.google.android.googlequicksearchbox": TrafficSource("Google", "search"),
    "com.google.android.gm": TrafficSource("Gmail", "email"),
    "com.google.android.youtube": TrafficSource("YouTube", "video"),
    "com.facebook.katana": TrafficSource("Facebook", "social"),
    "com.facebook.orca": TrafficSource("Facebook", "social"),
    "com.instagram.android": TrafficSource("Instagram", "social"),
    "com.twitter.android": TrafficSource("Twitter", "social"),
    "com.linkedin.android": TrafficSource("LinkedIn", "social"),
    "com.reddit.frontpage": TrafficSource("Reddit", "social"),
    "com.pinterest": TrafficSource("Pinterest", "social"),
    "org.telegram.messenger": TrafficSource("Telegram", "social"),
    "com.whatsapp": TrafficSource("WhatsApp", "social"),
    "com.slack": TrafficSource("Slack", "social"),
    "com.zhiliaoapp.musically": TrafficSource("TikTok", "social"),
    "com.openai.chatgpt": TrafficSource("ChatGPT", "ai"),
    "com.google.android.apps.bard": TrafficSource("Gemini", "ai"),
    "ai.perplexity.app.android": TrafficSource("Perplexity", "ai"),
    "com.microsoft.office.outlook": TrafficSource("Outlook.com", "email"),
}

# Common values of utm_source that are neither a name nor a host.
_SHORT = {
    "fb": "Facebook", "ig": "Instagram", "yt": "YouTube", "tw": "Twitter", "x": "Twitter", "li": "LinkedIn",
    "ddg": "DuckDuckGo", "hn": "Hacker News", "wa": "WhatsApp", "tg": "Telegram", "an": "Facebook",
    "msg": "Facebook", "adwords": "Google", "googleads": "Google", "google_ads": "Google", "google-ads": "Google",
    "bingads": "Bing", "bing_ads": "Bing", "facebook_ads": "Facebook", "meta": "Facebook", "perplexity": "Perplexity",
    "openai": "ChatGPT", "vk": "Vkontakte", "stackoverflow": "Stack Overflow",
}  # fmt: skip
_EMAILS = ("email", "e-mail", "e_mail", "e mail", "newsletter")

# Click ids that advertisements add to a link. The value is true if the click id always means an advertisement; it then
# gives a medium to a link without one. fbclid and igshid are on every link out of Facebook and Instagram.
CLICK_IDS: dict[str, tuple[str, bool]] = {
    "gclid": ("Google", True), "gbraid": ("Google", True), "wbraid": ("Google", True), "dclid": ("Google", True),
    "msclkid": ("Bing", True), "yclid": ("Yandex", True), "ttclid": ("TikTok", True), "twclid": ("Twitter", True),
    "li_fat_id": ("LinkedIn", True), "rdt_cid": ("Reddit", True), "sccid": ("Snapchat", True),
    "gad_source": ("Google", True), "epik": ("Pinterest", True), "fbclid": ("Facebook", False),
    "igshid": ("Instagram", False),
}  # fmt: skip


def read_referrer(text: str) -> Referrer | None:
    """Return the page or app that a visitor came from. Return None for other texts that clients send as a referrer: a
    path of the site itself, a word such as `null`, another scheme such as `about:` or `mailto:`.
    """
    return (_remembered_referrer if len(text) <= _LONGEST_REMEMBERED else _read_referrer)(text)


def _read_referrer(text: str) -> Referrer | None:
    try:
        url = split_url(text)
        if not url.scheme and not url.host and BARE_HOST.match(url.path):
            url = split_url(f"//{url.path}")
    except ValueError:
        return None
    if url.scheme not in REFERRER_SCHEMES or not url.host or url.host in NO_HOSTS:
        return None
    scheme = f"{url.scheme}://" if url.scheme else ""
    host = f"[{url.host}]" if ":" in url.host else url.host
    port = f":{url.port}" if url.port else ""
    path = AFTER_PATH.split(url.path, maxsplit=1)[0]
    return Referrer(f"{scheme}{host}{port}{path}"[:LONGEST_REFERRER], plain_host(host), path)


_remembered_referrer = lru_cache(maxsize=_REMEMBERED)(_read_referrer)


def source_of_host(hostname: str, path: str = "") -> TrafficSource:
    """Return the source of a host. An unknown host is its own source."""
    if path.strip("/") and hostname.partition(".")[0] in _pathed():
        first = path.split("/", 2)[1]
        if found := _table().get(f"{hostname}/{first}") or _table().get(f"{hostname}{path}"):
            return found
    return _of_host(hostname)


@lru_cache(maxsize=_REMEMBERED)
def _of_host(hostname: str) -> TrafficSource:
    if app := APPS.get(hostname):
        return app
    table, part = _table(), hostname
    while part:
        if found := table.get(part):
            below = hostname.removesuffix(part)
            return found if found.kind != "search" or SEARCHES.fullmatch(below) else TrafficSource(found.name)
        part = part.partition(".")[2]
    return TrafficSource(hostname)


@lru_cache(maxsize=_REMEMBERED)
def source_named(name: str) -> TrafficSource:
    """Return the source that a link's utm_source, ref or source means: a known name in any spelling, a host, or the
    text itself.
    """
    text = name.strip().lower()
    if "//" in text:
        referrer = read_referrer(text)
        return (
            source_of_host(referrer.hostname, referrer.path)
            if referrer
            else TrafficSource(text.partition("//")[0] or "unknown")
        )
    known = _names().get(_SHORT.get(text, text).lower())
    if known is None and text in _EMAILS:
        return TrafficSource(name, "email")
    if known is None and text == "sms":
        return TrafficSource(name, "sms")
    if known is None and "." in text and " " not in text:
        found = source_of_host(text.removeprefix("www."))
        known = found if found.name != text.removeprefix("www.") else None
    return known or TrafficSource(name)


@cache
def _table() -> dict[str, TrafficSource]:
    """The sources by host, or by host and first part of a path."""
    table = {
        host.lower().removeprefix("www."): TrafficSource(
            _known_as(each["source"]), SOURCE_KINDS.get(each["medium"], "other")
        )
        for host, each in json.loads(TABLE.read_text(encoding="utf-8")).items()
    }
    ours = {host: TrafficSource(name, kind) for kind, hosts in HOSTS.items() for host, name in hosts.items()}
    kinds = {source.name: source for source in ours.values() if source.kind in ("shopping", "video")}
    # A source that is a shop or shows videos on one of its hosts has that kind on all of them, such as Amazon in other
    # countries.
    return {host: kinds.get(source.name, source) for host, source in table.items()} | ours


def _known_as(name: str) -> str:
    return {"Youtube": "YouTube", "Google Product Search": "Google Shopping", "StackOverflow": "Stack Overflow"}.get(
        name, name
    )


@cache
def _names() -> dict[str, TrafficSource]:
    """The sources by name in lower case, with and without spaces. A search engine has priority over another source of
    the same name.
    """
    names: dict[str, TrafficSource] = {}
    for source in (*_table().values(), *APPS.values()):
        for name in (source.name.lower(), source.name.lower().replace(" ", "")):
            if name not in names or (source.kind == "search" and names[name].kind in ("email", "other")):
                names[name] = source
    return names


@cache
def _pathed() -> frozenset[str]:
    """The first parts of hosts on which only some pages belong to another source, such as google.com/imgres."""
    return frozenset(key.partition(".")[0] for key in _table() if "/" in key)
