"""Sources and channels, as a table of links and referrers."""

import json

import pytest

from analytics.enrichment.channels import CHANNEL_RULES, UNASSIGNED
from analytics.enrichment.sources import SOURCE_KINDS, TABLE, source_named, source_of_host
from analytics.enrichment.steps import Lookups, enrich
from analytics.events.event import Event
from analytics.events.schema import load_event
from analytics.sites.site import Site
from analytics.urls import plain_host
from analytics.visitors.client import Client
from tests.support.services import NOW

GOOGLE, FACEBOOK = "https://www.google.com/", "https://l.facebook.com/"

# The query of the page, the referrer, the source, the channel.
CASES = [
    ("", "", None, "Direct"),
    ("", "https://www.shop.example/pricing", None, "Direct"),
    ("", GOOGLE, "Google", "Organic Search"),
    ("", "https://www.google.co.uk/search?q=shoes", "Google", "Organic Search"),
    ("", "android-app://com.google.android.googlequicksearchbox/", "Google", "Organic Search"),
    ("", "https://duckduckgo.com/", "DuckDuckGo", "Organic Search"),
    ("", "https://www.bing.com/search?q=x", "Bing", "Organic Search"),
    ("", "https://yandex.ru/", "Yandex", "Organic Search"),
    ("", "https://kagi.com/", "Kagi", "Organic Search"),
    ("", "https://www.google.de/imgres?imgurl=x", "Google Images", "Organic Search"),
    ("utm_medium=organic&utm_source=Bing", "", "Bing", "Organic Search"),
    ("utm_source=google&utm_medium=cpc", GOOGLE, "Google", "Paid Search"),
    ("gclid=abc", GOOGLE, "Google", "Paid Search"),
    ("gbraid=abc", "", "Google", "Paid Search"),
    ("wbraid=abc", "", "Google", "Paid Search"),
    ("gad_source=1", "", "Google", "Paid Search"),
    ("gad_source=1&gclid=abc", GOOGLE, "Google", "Paid Search"),
    ("gad_source=1&utm_source=x1&utm_medium=email", "", "x1", "Email"),
    ("msclkid=abc", "https://www.bing.com/", "Bing", "Paid Search"),
    ("yclid=abc", "", "Yandex", "Paid Search"),
    ("dclid=abc", "", "Google", "Display"),
    ("", FACEBOOK, "Facebook", "Organic Social"),
    ("fbclid=abc", FACEBOOK, "Facebook", "Organic Social"),
    ("fbclid=abc", "", "Facebook", "Organic Social"),
    ("fbclid=abc", "https://l.instagram.com/", "Instagram", "Organic Social"),
    ("fbclid=abc&utm_source=fb&utm_medium=paid", FACEBOOK, "Facebook", "Paid Social"),
    ("utm_source=ig&utm_medium=paid_social", "", "Instagram", "Paid Social"),
    ("ttclid=abc", "https://www.tiktok.com/", "TikTok", "Paid Social"),
    ("twclid=abc", "", "Twitter", "Paid Social"),
    ("li_fat_id=abc", "", "LinkedIn", "Paid Social"),
    ("", "https://t.co/abc", "Twitter", "Organic Social"),
    ("", "https://x.com/somebody", "Twitter", "Organic Social"),
    ("", "https://lnkd.in/abc", "LinkedIn", "Organic Social"),
    ("", "https://old.reddit.com/r/python", "Reddit", "Organic Social"),
    ("", "https://news.ycombinator.com/item?id=1", "Hacker News", "Organic Social"),
    ("", "https://bsky.app/", "Bluesky", "Organic Social"),
    ("", "https://web.telegram.org/", "Telegram", "Organic Social"),
    ("utm_source=forum&utm_medium=social-network", "", "forum", "Organic Social"),
    ("", "https://www.youtube.com/watch?v=1", "YouTube", "Organic Video"),
    ("", "https://vimeo.com/1", "Vimeo", "Organic Video"),
    ("utm_source=tv&utm_medium=Video", "", "tv", "Organic Video"),
    ("utm_source=youtube&utm_medium=cpv", "", "YouTube", "Paid Video"),
    ("", "https://www.amazon.com/dp/1", "Amazon", "Organic Shopping"),
    ("", "https://www.amazon.co.uk/dp/1", "Amazon", "Organic Shopping"),
    ("", "https://www.etsy.com/", "Etsy", "Organic Shopping"),
    ("utm_source=x1&utm_campaign=summer_shop", "", "x1", "Organic Shopping"),
    ("utm_source=google&utm_medium=cpc&utm_campaign=Shopping_all", "", "Google", "Paid Shopping"),
    ("utm_source=ebay&utm_medium=ppc", "", "eBay", "Paid Shopping"),
    ("utm_source=network&utm_medium=banner", "", "network", "Display"),
    ("utm_source=network&utm_medium=CPM", "", "network", "Display"),
    ("", "https://ad.doubleclick.net/x", "Doubleclick", "Display"),
    ("utm_source=partner&utm_medium=cpa", "", "partner", "Paid Other"),
    ("utm_source=google&utm_medium=cpc&utm_campaign=de_cross-network_1", "", "Google", "Cross-network"),
    ("utm_source=letter&utm_medium=email", "", "letter", "Email"),
    ("utm_source=newsletter", "", "newsletter", "Email"),
    ("utm_source=letter&utm_medium=E-Mail", "", "letter", "Email"),
    ("", "https://mail.google.com/mail/u/0/", "Gmail", "Email"),
    ("", "android-app://com.google.android.gm/", "Gmail", "Email"),
    ("utm_source=blog&utm_medium=affiliate", "", "blog", "Affiliates"),
    ("utm_source=show&utm_medium=audio", "", "show", "Audio"),
    ("", "https://open.spotify.com/", "Spotify", "Audio"),
    ("utm_source=sms", "", "sms", "SMS"),
    ("utm_source=boutique&utm_medium=sms", "", "boutique", "SMS"),
    ("utm_source=app1&utm_medium=push", "", "app1", "Mobile Push Notifications"),
    ("utm_source=firebase&utm_medium=x", "", "firebase", "Mobile Push Notifications"),
    ("", "https://chatgpt.com/", "ChatGPT", "AI Assistants"),
    ("utm_source=chatgpt.com", "https://chatgpt.com/", "ChatGPT", "AI Assistants"),
    ("utm_source=openai", "", "ChatGPT", "AI Assistants"),
    ("", "https://www.perplexity.ai/search/x", "Perplexity", "AI Assistants"),
    ("", "https://claude.ai/", "Claude", "AI Assistants"),
    ("", "https://gemini.google.com/", "Gemini", "AI Assistants"),
    ("", "https://copilot.microsoft.com/", "Copilot", "AI Assistants"),
    ("", "https://chat.deepseek.com/", "DeepSeek", "AI Assistants"),
    *[("", f"https://{host}.google.com/", "Google", "Referral") for host in ("docs", "calendar", "meet", "translate")],
    ("", "https://disk.yandex.ru/d/1", "Yandex", "Referral"),
    ("", "https://pan.baidu.com/s/1", "Baidu", "Referral"),
    ("", "https://news.yahoo.co.jp/articles/1", "Yahoo!", "Referral"),
    ("", "https://finance.yahoo.com/", "Yahoo!", "Referral"),
    ("", "https://cloud.mail.ru/public/1", "Mail.ru", "Referral"),
    ("", "https://ya.ru/", "Yandex", "Organic Search"),
    ("", "https://yandex.com.tr/search/?text=x", "Yandex", "Organic Search"),
    ("", "https://go.mail.ru/search?q=x", "Mail.ru", "Organic Search"),
    ("", "https://cn.bing.com/search?q=x", "Bing", "Organic Search"),
    ("", "https://r.search.yahoo.com/", "Yahoo!", "Organic Search"),
    ("", "https://uk.search.yahoo.com/", "Yahoo!", "Organic Search"),
    ("", "https://www.baidu.com/s", "Baidu", "Organic Search"),
    ("", "https://my.mail.ru/", "Mail.ru", "Organic Social"),
    ("", "https://www.threads.net/@anna", "Threads", "Organic Social"),
    ("", "https://e.mail.ru/inbox", "Mail.ru", "Email"),
    ("", "https://blog.example/post/1", "blog.example", "Referral"),
    ("", "https://github.com/a/b", "GitHub", "Referral"),
    ("", "https://support.google.com/x", "Google", "Referral"),
    ("ref=producthunt", "", "Product Hunt", "Organic Social"),
    ("ref=somebody", GOOGLE, "somebody", "Referral"),
    ("source=partner.example", "", "partner.example", "Referral"),
    ("utm_source=partner&utm_medium=referral", "", "partner", "Referral"),
    ("utm_source=flyer&utm_medium=print", "", "flyer", "Unassigned"),
    ("utm_campaign=spring", "", None, "Unassigned"),
]  # fmt: skip


def enriched(**body: str) -> Event:
    event = load_event({"site_id": "shop", "event_type": "pageview"} | body, NOW)
    found = enrich(event, Client(), Site("shop"), Lookups())
    assert isinstance(found, Event)
    return found


@pytest.mark.parametrize(("query", "referrer", "source", "channel"), CASES)
def test_source_and_channel_are_derived_from_link_and_referrer(
    query: str, referrer: str, source: str | None, channel: str
):
    event = enriched(url=f"https://shop.example/?{query}", referrer=referrer)
    described = event.described or {}
    assert (described.get("source"), described.get("channel")) == (source, channel)


# Footfall's own table takes precedence here: kinds that Ghost's table lacks, and sites that GA4 does not list as social
# networks.
OURS = {"shopping", "video"}
OTHERS = {"github.com", "stackoverflow.com", "sourceforge.net", "getpocket.com", "news.google.com"}


def test_every_entry_of_the_table_of_referrers_is_classified_as_it_says():
    entries = json.loads(TABLE.read_text(encoding="utf-8"))
    assert len(entries) > 2000
    for entry, said in entries.items():
        host, slash, path = entry.partition("/")
        kind = source_of_host(plain_host(host), slash + path).kind
        if kind not in OURS and host not in (*OTHERS, "digg.com"):
            assert kind == SOURCE_KINDS.get(said["medium"], "other"), entry


def test_every_channel_has_a_case():
    assert {channel for *_, channel in CASES} == {channel for channel, _ in CHANNEL_RULES} | {UNASSIGNED}


def test_a_click_id_sets_the_medium_if_the_link_has_none():
    assert (enriched(url="https://shop.example/?gclid=1").described or {})["utm_medium"] == "(gclid)"
    said = enriched(url="https://shop.example/?gclid=1&utm_medium=ppc&utm_source=google").described or {}
    assert (said["utm_medium"], said["utm_source"], said["source"]) == ("ppc", "google", "Google")
    assert "utm_medium" not in (enriched(url="https://shop.example/?fbclid=1").described or {})


def test_a_source_is_known_in_every_spelling():
    for name in ("google", "GOOGLE", "google.com", "www.google.com", "adwords"):
        assert source_named(name).name == "Google"
    assert source_named("yandex").kind == "search"
    assert source_named("Our Partner").name == "Our Partner"
    assert source_named("a.b c").name == "a.b c"


def test_subdomains_of_a_known_host_belong_to_it_and_other_hosts_do_not():
    assert source_of_host("de.linkedin.com").name == "LinkedIn"
    assert source_of_host("notgoogle.com").name == "notgoogle.com"
    assert source_of_host("google.com.evil.example").name == "google.com.evil.example"
    assert source_of_host("localhost").name == "localhost"
