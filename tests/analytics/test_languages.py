"""Languages: the catalogues are complete, and texts and numbers follow the spoken language."""

import json
import re
from contextvars import copy_context
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from analytics.languages import (
    ENGLISH,
    LANGUAGES,
    TRANSLATIONS,
    format_number,
    gettext,
    joined,
    ngettext,
    speak,
    speaking,
    spoken_language,
    translatable,
)
from analytics.suggestion import did_you_mean

ROOT = Path(__file__).parents[2]
OTHERS = [language for language in LANGUAGES if language != ENGLISH]
KEYWORDS = DEFAULT_KEYWORDS | {"lazy": None, "translatable": None}  # as in the Makefile


@cache
def catalogue(language: str) -> Catalog:
    with (TRANSLATIONS / language / "LC_MESSAGES" / "messages.po").open("rb") as file:
        return read_po(file)


@cache
def texts_of_the_source() -> set[str]:
    """The English of all texts that the source marks, the singular if there are two forms."""
    with (ROOT / "babel.cfg").open(encoding="utf-8") as file:
        methods, options = parse_mapping_cfg(file)
    found = set()
    for package in ("analytics", "report_app", "web"):
        methods_here = [(pattern.removeprefix(f"{package}/"), how) for pattern, how in methods]
        options_here = {pattern.removeprefix(f"{package}/"): each for pattern, each in options.items()}
        for _, _, text, _, _ in extract_from_dir(ROOT / package, methods_here, options_here, KEYWORDS):
            found.add(text if isinstance(text, str) else text[0])
    return found


def pairs(message: Message) -> list[tuple[str, str]]:
    """Each translation, with the English that it stands for."""
    if isinstance(message.id, str):
        return [(message.id, str(message.string))]
    return [(message.id[-1], form) for form in message.string]


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_has_a_translation_and_no_translation_is_left_over(language: str):
    messages = [message for message in catalogue(language) if message.id]
    translated = {message.id if isinstance(message.id, str) else message.id[0] for message in messages}
    assert len(translated) > 800
    assert texts_of_the_source() == translated, "run `make translations`, and translate what is new"
    assert [message.id for message in messages if message.fuzzy or not all(form for _, form in pairs(message))] == []


@pytest.mark.parametrize("language", OTHERS)
def test_translations_keep_the_placeholders_the_tags_and_the_codes(language: str):
    for message in catalogue(language):
        for english, text in pairs(message) if message.id else []:
            for part in (r"%\(\w+\)\d*[sd]|%%", r"<[^>]*>", r"`[^`]*`"):
                assert sorted(re.findall(part, english)) == sorted(re.findall(part, text)), english
            assert english[:1].isspace() == text[:1].isspace(), english


@pytest.mark.parametrize("language", OTHERS)
def test_the_compiled_catalogue_is_that_of_the_texts(language: str):
    compiled = BytesIO()
    write_mo(compiled, catalogue(language))
    stored = TRANSLATIONS / language / "LC_MESSAGES" / "messages.mo"
    assert stored.read_bytes() == compiled.getvalue(), "run `make translations`"


def test_texts_and_numbers_follow_the_spoken_language():
    with speaking("de"):
        assert gettext("Visitors") == "Besucher"
        assert gettext("%(store)s is not reachable", store="Redis") == "Redis ist nicht erreichbar"
        assert ngettext("%(count)s event", "%(count)s events", 1) == "1 Ereignis"
        assert ngettext("%(count)s event", "%(count)s events", 1234) == "1.234 Ereignisse"
        assert format_number(1234.5, 1) == "1.234,5"
        assert gettext("") == ""
        assert gettext("100% of a text without a translation") == "100% of a text without a translation"
    assert gettext("Visitors") == "Visitors"
    assert ngettext("%(count)s event", "%(count)s events", 1234) == "1,234 events"
    assert format_number(1234.5, 1) == "1,234.5"


def test_an_english_text_remembers_what_it_is_made_of():
    said = joined("goal: ", translatable("The site has no goal %(goal)s.", goal="100%"), did_you_mean("sal", ["sale"]))
    assert said == "goal: The site has no goal 100%. Did you mean 'sale'?"
    with speaking("de"):
        assert gettext(said) == "goal: Die Website hat kein Ziel 100%. Meinten Sie 'sale'?"
        assert gettext(joined("", translatable("Visitors"))) == "Besucher"
    assert gettext(said) == said
    assert json.dumps([said]) == json.dumps([str(said)])


def test_a_language_is_spoken_only_where_it_was_chosen():
    copy_context().run(speak, "de")
    assert spoken_language() == ENGLISH
    with pytest.raises(ZeroDivisionError), speaking("de"):
        raise ZeroDivisionError
    assert spoken_language() == ENGLISH
