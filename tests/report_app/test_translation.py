"""Which language a page speaks, and that its templates translate all that people read."""

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from jinja2 import Environment, nodes

import report_app
from analytics.languages import ENGLISH, spoken_language
from analytics.sites.site import Site
from config.services import Services

TEMPLATES = Path(report_app.__file__).parent / "templates"
READ = ("title", "aria-label", "placeholder", "alt")  # attributes that people read or hear
VALUE = "\N{OBJECT REPLACEMENT CHARACTER}"  # stands for what a template inserts
TRANSLATE = ("_", "gettext", "ngettext")
# What is the same in every language: our name, names of files, keys and settings, and examples.
SAME = re.compile(
    r"Footfall|CSV|UTC|[CRX]|plan|shop\.example|/pricing"
    r"|python -m footfall sites set shop domains=shop\.example timezone=Europe/Berlin"
)


class Texts(HTMLParser):
    """The texts of a page that people read, without those in `pre`, which are code."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_code = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_code += tag in ("pre", "code", "style")
        self.found += [value for name, value in attrs if name in READ and value]

    def handle_endtag(self, tag: str) -> None:
        self._in_code -= tag in ("pre", "code", "style")

    def handle_data(self, data: str) -> None:
        if not self._in_code:
            self.found.append(data)


def texts_outside_gettext(template: str) -> list[str]:
    """The texts that a template writes as they are: those between its tags, and those that its expressions choose."""
    html, depth, block = "", 0, []
    environment = Environment(extensions=["jinja2.ext.i18n"], autoescape=True)
    for _, kind, text in environment.lex(template):
        if kind == "data":
            html += "" if depth else text
        elif kind == "variable_begin":
            html += "" if depth else VALUE
        elif kind == "block_begin":
            block = []
        elif kind == "name":
            block.append(text)
            depth += (block == ["trans"]) - (block == ["endtrans"])
    read = Texts()
    read.feed(html)
    words = [text.replace(VALUE, "").strip(" \n.,:·←→×▾↗+/()“”…") for text in read.found]  # noqa: RUF001
    chosen = [text for text in constants(environment.parse(template)) if re.match(r"[A-Z][a-z]|[a-z]+ [a-z]", text)]
    return [word for word in words + chosen if re.search(r"[^\W\d_]", word) and not SAME.fullmatch(word)]


def constants(node: nodes.Node) -> list[str]:
    """The strings in expressions, without those that are translated."""
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name in TRANSLATE:
        return []
    if isinstance(node, nodes.Const):
        return [node.value] if isinstance(node.value, str) else []
    return [text for child in node.iter_child_nodes() for text in constants(child)]


@pytest.mark.parametrize(
    ("template", "outside"),
    [
        ("<p>Hello</p>", ["Hello"]),
        ("<p>{{ name }} is here</p>", ["is here"]),
        ('<a title="Go {{ where }}" href="/to">{{ _("Go") }}</a>', ["Go"]),
        ("<p>{% trans %}Hello <b>you</b>{% endtrans %}</p><b>{{ _('x') }}</b>", []),
        ("{{ 'No' if a else _('Yes') }}{{ a or 'not known' }}", ["No", "not known"]),
        ("{% if a %}Yes{% else %}{{ _('No') }}{% endif %}", ["Yes"]),
    ],
)
def test_texts_outside_gettext_are_found(template: str, outside: list[str]):
    assert texts_outside_gettext(template) == outside


@pytest.mark.parametrize("file", sorted(TEMPLATES.rglob("*.html")), ids=lambda file: str(file.relative_to(TEMPLATES)))
def test_a_template_has_no_text_outside_gettext(file: Path):
    if file.name == "macros.html":  # they write attributes of tags, and no tags
        return
    assert texts_outside_gettext(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("asked", "language"),
    [("de", "de"), ("de-AT,en;q=0.5", "de"), ("fr, en;q=0.8, de;q=0.5", "en"), ("fr", "en"), ("", "en"), ("*", "en")],
)
def test_a_guest_gets_the_language_of_the_browser(report: FlaskClient, asked: str, language: str):
    answer = report.get("/login", headers={"Accept-Language": asked})
    assert f'<html lang="{language}"' in answer.text
    assert ("Passwort" in answer.text) == (language == "de")


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("f=is,goal,nothing", "Ungültige Filter. Das Ziel `nothing` ist für diese Website nicht eingerichtet."),
        ("f=matches,page,%255B", "event:page: Ungültiger regulärer Ausdruck: missing ]"),
        ("f=matches,page,(%255CpL%257B100%257D)%257B9%257D", "event:page: Der reguläre Ausdruck ist zu groß."),
        ("f=is,page," + "x" * 2049, "Erwartet wird ein Text von höchstens 2048 Zeichen."),
        ("f=is,segment,7", "Das Segment 7 ist kein gespeicherter Filter dieser Website."),
        ("with=blog", "Erwartet werden Websites mit derselben Zeitzone, aber es sind shop UTC, blog Europe/Berlin."),
    ],
)
def test_a_question_that_cannot_be_asked_is_explained_in_the_language_of_the_page(
    report: FlaskClient, services: Services, story: None, question: str, said: str
):
    services.sites.put(Site("blog", zone=ZoneInfo("Europe/Berlin")))
    answer = report.get(f"/parts/panel/pages/shop?period=7d&{question}", headers={"Accept-Language": "de"})
    assert (answer.status_code, said in unescape(answer.text)) == (400, True), answer.text
    assert "Diese Abfrage ist nicht möglich" in answer.text


def test_the_api_speaks_english_also_after_a_page_in_german(report: FlaskClient):
    german = {"Accept-Language": "de"}
    assert "Nicht gefunden" in report.get("/join/nothing", headers=german).text
    assert "site_id" in report.get("/stats", headers=german).json["error"]["message"]
    assert report.get("/stats", headers=german).text == report.get("/stats").text
    assert spoken_language() == ENGLISH, "a page ends with its request"


def test_pages_vary_by_language(report: FlaskClient, story: None):
    page = report.get("/site/shop", headers={"Accept-Language": "de"})
    assert "Accept-Language" in page.headers["Vary"]
    assert "Zeitraum: " in page.text  # figures that take long follow later
