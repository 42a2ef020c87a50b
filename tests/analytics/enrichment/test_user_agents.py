"""User agents: browsers, systems, devices, and programs."""

import re
import time

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from hypothesis import given
from hypothesis import strategies as st
from is_bot import Bots

from analytics.enrichment.user_agents import FURTHER_AI_CRAWLERS, Agent, BotPatterns, agent_of, ai_crawlers

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
IOS = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT}"


@pytest.mark.parametrize(
    ("user_agent", "agent"),
    [
        (f"{WINDOWS} Chrome/142.0.0.0 Safari/537.36", ("Chrome", "142.0", "Windows", "10", "Desktop")),
        (f"{WINDOWS} Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0", ("Edge", "142.0", "Windows", "10", "Desktop")),
        (f"{WINDOWS} Chrome/142.0.0.0 Safari/537.36 OPR/120.0.0.0", ("Opera", "120.0", "Windows", "10", "Desktop")),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
         ("Firefox", "145.0", "Linux", None, "Desktop")),
        (f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {WEBKIT} Chrome/142.0.0.0 Safari/537.36",
         ("Chrome", "142.0", "Chrome OS", "14541.0", "Desktop")),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1"
         " Safari/605.1.15", ("Safari", "26.1", "macOS", "10.15", "Desktop")),
        (f"{IOS} Version/26.6 Mobile/15E148 Safari/604.1", ("Safari", "26.6", "iOS", "18.7", "Mobile")),
        (f"{IOS} CriOS/148.0.0.0 Mobile/15E148 Safari/604.1", ("Chrome", "148.0", "iOS", "18.7", "Mobile")),
        (f"{IOS} FxiOS/145.0 Mobile/15E148 Safari/605.1.15", ("Firefox", "145.0", "iOS", "18.7", "Mobile")),
        (f"{IOS} Mobile/15E148 [FBAN/FBIOS;FBAV/400.0;FBDV/iPhone14,5]",
         ("Facebook", "400.0", "iOS", "18.7", "Mobile")),
        ("Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5"
         " Mobile/15E148 Safari/604.1", ("Safari", "17.5", "iOS", "17.5", "Tablet")),
        (f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/142.0.0.0 Mobile Safari/537.36",
         ("Chrome", "142.0", "Android", "10", "Mobile")),
        (f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/142.0.0.0 Safari/537.36",
         ("Chrome", "142.0", "Android", "10", "Tablet")),
        (f"Mozilla/5.0 (Linux; Android 15; CPH2655 Build/AP3A.240617.008) {WEBKIT} Chrome/119.0 Mobile Safari/537.36",
         ("Chrome", "119.0", "Android", "15", "Mobile")),
        (f"Mozilla/5.0 (Linux; Android 9; CUBOT X19) {WEBKIT} Chrome/100.0.0.0 Mobile Safari/537.36",
         ("Chrome", "100.0", "Android", "9", "Mobile")),
        (f"Mozilla/5.0 (Web0S; Linux/SmartTV) {WEBKIT} Chrome/94.0.4606.128 Safari/537.36 WebAppManager",
         ("Chrome", "94.0", "Web0S", None, "TV")),
        (f"Mozilla/5.0 (PlayStation; PlayStation 5/2.26) {WEBKIT} Version/13.0 Safari/605.1.15",
         (..., ..., ..., ..., "Console")),
        ("Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/7.0; Media Center PC 6.0; Tablet PC 2.0)",
         (..., ..., "Windows", "7", "Desktop")),
        ("Mozilla/5.0 (Windows NT 6.3; WOW64; Trident/7.0; Touch; rv:11.0) like Gecko",
         ("Internet Explorer", "11.0", "Windows", "8.1", "Desktop")),
        (f"{WINDOWS} Chrome/142.0.0.0 Safari/537.36 Softphone/3", (..., ..., ..., ..., "Desktop")),
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox One) {WEBKIT} Edge/44.18363",
         (..., ..., ..., ..., "Console")),
        ("Mozilla/5.0 (Windows NT 6.2; ARM; Trident/7.0; Touch; rv:11.0; WPDesktop; Lumia 535) like Gecko",
         (..., ..., ..., ..., "Mobile")),
        (f"Mozilla/5.0 (Linux; Android 11; Chromebook / eve_cheets) {WEBKIT} Chrome/119.0 Safari/537.36",
         (..., ..., ..., ..., "Desktop")),
        (f"Mozilla/5.0 (Linux; Android 9; KFMAWI) {WEBKIT} Silk/119.0 like Chrome/119.0 Safari/537.36",
         (..., ..., ..., ..., "Tablet")),
        (f"{IOS} Mobile/15E148 KFC/7.1", (..., ..., ..., ..., "Mobile")),
        ("curl/8.5.0", ("curl", "8.5", None, None, None)),
        ("", (None,) * 5),
    ],
)  # fmt: skip
def test_browser_system_and_device_are_derived_from_the_user_agent(user_agent: str, agent: tuple[str | None, ...]):
    found = agent_of(user_agent)
    told = (found.browser, found.browser_version, found.os, found.os_version, found.device)
    assert not found.is_bot
    assert tuple(... if expected is ... else each for each, expected in zip(told, agent, strict=True)) == agent


@pytest.mark.parametrize(
    "user_agent",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Googlebot/2.1 (+http://www.google.com/bot.html)",
        f"{IOS} Version/6.0 Mobile/10A5376e Safari/8536.25 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        f"Mozilla/5.0 {WEBKIT}; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} HeadlessChrome/142.0.0.0 Safari/537.36",
        f"Mozilla/5.0 (Linux; Android 11; moto g power) {WEBKIT} Chrome/109.0 Mobile Safari/537.36 Chrome-Lighthouse",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        "Twitterbot/1.0",
        "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
        "Scrapy/2.11 (+https://scrapy.org)",
        "UptimeRobot/2.0",
        "HetrixTools Uptime Monitor",
        "LinkChecker/10.2",
        f"{WINDOWS} Chrome/144.0.0.0 Safari/537.36 DatadogSynthetics",
        f"{IOS} Version/7.0 Mobile/11A465 Safari/9537.53 BingPreview/1.0b",
        "Mozilla/5.0 (compatible; SecurityScanner/1.0)",
    ],
)
def test_a_crawler_is_a_bot(user_agent: str):
    agent = agent_of(user_agent)
    assert agent == Agent(is_bot=True, ai_crawler=agent.ai_crawler)


@pytest.mark.parametrize(
    "user_agent",
    ["curl/8.5.0", "python-requests/2.32", "python-httpx/0.28", "Go-http-client/2.0", "okhttp/4.12", "node",
     "axios/1.7", "Apache-HttpClient/4.5", "GuzzleHttp/7", "analytics-python/2.4.0", "plausible-events", "my-server",
     "Werkzeug/3.1", "MyApp/3.2 CFNetwork/1494 Darwin/23.4.0"],
)  # fmt: skip
def test_a_program_that_sends_events_itself_is_not_a_bot(user_agent: str):
    assert not agent_of(user_agent).is_bot


APPS = (
    "BottleFinder", "AbbottLibre", "QRScanner", "HeartMonitor", "SpellChecker", "BabyMonitor", "PriceChecker",
    "Spiderman", "Botanica", "BottomSheet", "Sabotage", "NewsReader", "FeedMe", "MyLibrary", "ScannerPro",
    "BarcodeScanner", "URLaub", "Javanese", "Serverless", "GrabTaxi", "Crawlspace", "Headlessly",
    "Scrapbook", "Agentur",
)  # fmt: skip


@pytest.mark.parametrize("name", APPS)
def test_the_name_of_a_bot_within_another_word_makes_no_bot(name: str):
    for user_agent in (
        f"{name}/3.2 CFNetwork/1494.0.7 Darwin/23.4.0",
        f"{name}/2",
        f"{name}/5 (iPhone; iOS 18.7; Scale/3.00)",
        f"{IOS} Mobile/15E148 {name}/5",
        f"Mozilla/5.0 (Linux; Android 14; Pixel 8; wv) {WEBKIT} Version/4.0 Chrome/142.0 Mobile Safari/537.36 {name}/5",
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} {name}/2 Chrome/142.0.0.0 Electron/39 Safari/537.36",
    ):
        assert not agent_of(user_agent).is_bot, user_agent


@pytest.mark.parametrize("name", ["iRobot", "ChatBot", "Talbots", "Monitor", "QR%20Scanner"])
@pytest.mark.parametrize(
    "of_a_phone",
    ["CFNetwork/1494.0.7 Darwin/23.4.0", "(iPad; iOS 16.1)", "(com.shop.app; build:4; iOS 18.1.0) Alamofire/5.6",
     "(Android 15; Pixel 9)", "Dalvik/2.1.0 (Linux; U; Android 13; Pixel 7)"],
)  # fmt: skip
def test_an_app_of_a_phone_may_have_the_name_of_a_bot(name: str, of_a_phone: str):
    assert not agent_of(f"{name}/3.2 {of_a_phone}").is_bot
    assert agent_of(f"{name}/3.2 (compatible; Googlebot/2.1; +http://www.google.com/bot.html) {of_a_phone}").is_bot


def test_the_bots_that_are_known_by_name_are_found():
    """From the examples of crawler-user-agents.

    The examples left out are programs that may send events, such as curl.
    """
    examples = {example for each in CRAWLER_USER_AGENTS_DATA for example in each.get("instances", [])}
    browsers = {example for example in examples if example.startswith("Mozilla/")}
    assert len(examples) > 2000
    assert sum(agent_of(example).is_bot for example in browsers) >= 0.99 * len(browsers)
    assert sum(agent_of(example).is_bot for example in examples) >= 0.75 * len(examples)


PIECES = (
    "Mozilla/5.0 ", "Mozilla/5.0 (", "cu", "bot", "BOTS", "_", "news", "google", "app", " channel/", "http", "lib",
    "/1.0", ".ai", ".com", ";", " a", "()", "|", "@a.", "wget", "agent", "K", "\u212a", "\u017f", "a" * 50,
)  # fmt: skip


patterns, isbot = BotPatterns(), Bots()


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=6).map("".join))
def test_each_pattern_by_itself_finds_what_isbot_finds(text: str):
    assert patterns.has_word_in(text) == isbot.is_bot(text)


def test_each_pattern_by_itself_finds_the_examples_that_isbot_finds():
    examples = {example for each in CRAWLER_USER_AGENTS_DATA for example in each.get("instances", [])}
    assert [x for x in examples if patterns.has_word_in(x) != isbot.is_bot(x)] == []


@pytest.mark.parametrize("piece", ["Mozilla/5.0 ", "(", "a" * 50 + "/1.0 ", "Android;", "\N{SNOWMAN}", "\x00", "bot-_"])
def test_no_user_agent_takes_long(piece: str):
    agent_of("warm up"), agent_of("Mozilla/5.0 (warm up)")
    start = time.thread_time()
    agent_of(f"Mozilla/5.0 {piece * 5000}")
    agent_of(piece * 5000)
    assert time.thread_time() - start < 1.0, "it takes 0.01 s"


@pytest.mark.parametrize("start", ["Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0", "app/1"])
def test_half_a_surrogate_pair_in_a_user_agent_causes_no_error(start: str):
    assert agent_of(f"{start} \ud83d") == agent_of(f"{start} ?")


def test_every_ai_crawler_has_a_name_of_its_own_without_spaces():
    tagged = [each for each in CRAWLER_USER_AGENTS_DATA if "ai-crawler" in each["tags"]]
    assert len(ai_crawlers()) == len(tagged) + len(FURTHER_AI_CRAWLERS) > 80
    assert {"GPTBot", "ClaudeBot", "PerplexityBot", "CCBot", "Bytespider", "OAI-SearchBot"} <= set(ai_crawlers())
    assert all(re.fullmatch("[A-Za-z0-9-]+", name) for name in ai_crawlers())
    agent = agent_of("Mozilla/5.0 (compatible; GPTBot/1.2; +https://openai.com/gptbot)")
    assert agent == Agent(is_bot=True, ai_crawler="GPTBot")
    assert agent_of("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)") == Agent(is_bot=True)


def test_every_ai_crawler_is_a_bot_that_is_counted_by_its_name():
    """The examples of crawler-user-agents, and what owners of other crawlers document."""
    tagged = [each for each in CRAWLER_USER_AGENTS_DATA if "ai-crawler" in each["tags"]]
    examples = {example for each in tagged for example in each.get("instances", [])}
    assert len(examples) > 90
    for user_agent in (*examples, *FURTHER_AI_CRAWLERS, *(f"{WINDOWS} {name}/1.0" for name in FURTHER_AI_CRAWLERS)):
        agent = agent_of(user_agent)
        assert agent == Agent(is_bot=True, ai_crawler=agent.ai_crawler), user_agent
        assert agent.ai_crawler, user_agent


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("meta-externalagent/1.1", "meta-externalagent"),
        ("meta-externalfetcher/1.1", "meta-externalfetcher"),
        ("Claude-User (claude-code/2.1.86; +https://support.anthropic.com/)", "Claude-User"),
        ("anthropic-ai", "anthropic-ai"),
        ("cohere-ai", "cohere-ai"),
        ("kagi-fetcher/1.0", "kagi-fetcher"),
        ("The Knowledge AI", "The-Knowledge-AI"),
        (f"{WINDOWS} Chrome/135.0.0.0 Safari/537.36 NovaAct/0.9", "NovaAct"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_10_1) AppleWebKit/600.2.5 (KHTML, like Gecko) Version/8.0.2"
         " Safari/600.2.5 (Amazonbot/0.1; +https://developer.amazon.com/support/amazonbot)", "Amazonbot"),
    ],
)  # fmt: skip
def test_an_ai_crawler_without_a_word_for_bots_is_counted_by_its_name(user_agent: str, name: str):
    assert agent_of(user_agent) == Agent(is_bot=True, ai_crawler=name)


@pytest.mark.parametrize("name", ["Devine", "TerraCottage", "Novellumen", "MyDevin", "linkReaders", "imagemind"])
def test_the_name_of_an_ai_crawler_within_another_word_makes_no_bot(name: str):
    assert not agent_of(f"{name}/3.2").is_bot
    assert not agent_of(f"{WINDOWS} {name}/2 Chrome/142.0.0.0 Electron/39 Safari/537.36").is_bot
    assert not agent_of("Novellum/3.2 CFNetwork/1494.0.7 Darwin/23.4.0").is_bot
