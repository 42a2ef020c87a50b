"""Which language a page speaks: the one that the user chose, or else the one that the browser asks for.

Pages speak the browser's language from the beginning of a request, and the user's as soon as the user is known
(page_access.py). All other routes are the API, which speaks English.
"""

from collections.abc import Callable
from typing import Any, cast

from flask import Flask, current_app, request
from jinja2 import pass_context

from analytics.languages import ENGLISH, LANGUAGES, format_number, gettext, ngettext, speak, spoken_language
from report_app.pages.words import GRAIN_NAMES, day_name, duration, file_size, full_day, percent
from report_app.texts import lazy, named, within_sentence

_DEFAULT = "FOOTFALL_DEFAULT_LANGUAGE"  # in the configuration of the app

# What pages.js says, by its names.
_SCRIPT_TEXTS = {
    "no_answer": lazy("The server does not answer."),
    "load_again": lazy("Load the page again"),
    "seconds": lazy("%(count)ss"),
    "minutes": lazy("%(count)sm"),
    "duration_hint": lazy("Seconds, or 1:30"),
    "number_hint": lazy("A number"),
    "month_before": lazy("Previous month"),
    "month_after": lazy("Next month"),
}


def use_translations(app: Flask, default_language: str) -> None:
    """Templates translate with `_`, `ngettext` and `{% trans %}`. Filters write numbers and days. `default_language` is
    for browsers that ask for none of LANGUAGES.
    """
    app.config[_DEFAULT] = default_language
    app.teardown_request(lambda _: speak(ENGLISH))  # the next request of the thread may be one of the API
    env = app.jinja_env
    env.add_extension("jinja2.ext.i18n")
    env.policies["ext.i18n.trimmed"] = True
    cast(Any, env).install_gettext_callables(gettext, ngettext)
    filters: dict[str, Callable[..., str]] = {
        "day": day_name,
        "duration": duration,
        "full_day": full_day,
        "file_size": file_size,
        "named": named,
        "number": format_number,
        "percent": percent,
        "within_sentence": within_sentence,
    }
    env.filters.update({name: _when_shown(write) for name, write in filters.items()})
    env.globals.update(language=spoken_language, grain_names=GRAIN_NAMES, script_texts=_script_texts)


def _when_shown(write: Callable[..., str]) -> Callable[..., str]:
    """The filter as one that needs the context. Jinja applies any other filter to a constant when it compiles the
    template, and so in the language of the first request for a page.
    """
    return pass_context(lambda _, *args: write(*args))


def speak_as_browser() -> None:
    """Speak the language that the browser asks for, from now on in this request. "de-AT" asks for "de"."""
    asked = (tag.partition("-")[0].lower() for tag, quality in request.accept_languages if quality)
    speak(next((language for language in asked if language in LANGUAGES), current_app.config[_DEFAULT]))


def speak_as_chosen(language: str) -> None:
    """Speak the language that a user chose, "" for that of the browser, from now on in this request."""
    if language in LANGUAGES:
        speak(language)
    else:
        speak_as_browser()


def _script_texts() -> dict[str, str]:
    return {name: str(text) for name, text in _SCRIPT_TEXTS.items()}
