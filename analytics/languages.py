"""The language of what people read: pages and notifications. The API, logs and commands are in English.

A request or a task says which language it speaks, and the code that it calls translates texts with `gettext`. The
English text is the name of a message. The catalogue of another language is read when it is first needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from gettext import NullTranslations, translation
from pathlib import Path

ENGLISH = "en"
LANGUAGES = {ENGLISH: "English", "de": "Deutsch"}  # by their own names
TRANSLATIONS = Path(__file__).parent / "translations"

_spoken: ContextVar[str] = ContextVar("language", default=ENGLISH)


def spoken_language() -> str:
    """The key of LANGUAGES that is spoken here."""
    return _spoken.get()


def speak(language: str) -> None:
    """Speak a language of LANGUAGES from now on, in this thread."""
    _spoken.set(language)


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Speak a language of LANGUAGES within the block."""
    token = _spoken.set(language)
    try:
        yield
    finally:
        _spoken.reset(token)


class _Translatable(str):
    """Text in English, which remembers the formats and the values that it is made of."""

    parts: tuple[tuple[str, Mapping[str, object]], ...]


def translatable(text: str, /, **values: object) -> str:
    """The text itself. Marks a text that the API says in English, and that pages translate with gettext. With values,
    the text is a format such as "Remove %(name)s".
    """
    return _made_of((text, values)) if values else text


def joined(*texts: str) -> str:
    """The texts, one directly after the other. gettext translates each of them."""
    return _made_of(*(part for text in texts for part in _parts_of(text)))


def gettext(text: str, /, **values: object) -> str:
    """The text in the spoken language. With values, the text is a format such as "Remove %(name)s"."""
    return "".join(_say(*part) for part in ([(text, values)] if values else _parts_of(text)))


def _say(text: str, values: Mapping[str, object]) -> str:
    said = _catalogue(_spoken.get()).gettext(text) if text else ""  # gettext answers "" with the head of the catalogue
    return said % values if values else said


def _made_of(*parts: tuple[str, Mapping[str, object]]) -> str:
    made = _Translatable("".join(text % values if values else text for text, values in parts))
    made.parts = parts
    return made


def _parts_of(text: str) -> Sequence[tuple[str, Mapping[str, object]]]:
    return text.parts if isinstance(text, _Translatable) else [(text, {})]


def ngettext(one: str, many: str, count: int, /, **values: object) -> str:
    """The form of a text that fits the count. "%(count)s" stands for the count, as people write it."""
    said = _catalogue(_spoken.get()).ngettext(one, many, count)
    return said % {"count": format_number(count), **values}


def format_number(value: float, decimals: int = 0) -> str:
    """The number with this many decimals, as the spoken language writes it: "1,234.5" or "1.234,5"."""
    from babel.numbers import format_decimal  # noqa: PLC0415  a process that shows no number saves 5 MB

    pattern = f"#,##0.{'0' * decimals}" if decimals else "#,##0"
    return str(format_decimal(value, pattern, locale=_spoken.get()))


@cache
def _catalogue(language: str) -> NullTranslations:
    return NullTranslations() if language == ENGLISH else translation("messages", TRANSLATIONS, [language])
