"""The forms of the account pages. Each field says what is wrong with it."""

from collections.abc import Iterable, Mapping
from typing import Any

from flask_wtf import FlaskForm
from wtforms import EmailField, HiddenField, PasswordField, SelectField, StringField, TextAreaField, ValidationError
from wtforms.fields import SelectChoice
from wtforms.i18n import get_translations
from wtforms.validators import EqualTo, InputRequired, Length, Optional

from analytics.accounts.passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD
from analytics.accounts.sharing import (
    LONGEST_LINK_NAME,
    MOST_FRAMING_ORIGINS,
    SHORTEST_LINK_PASSWORD,
    framing_origin,
)
from analytics.accounts.user import LONGEST_EMAIL, LONGEST_PERSON_NAME, Role, plain_email
from analytics.languages import LANGUAGES, gettext, spoken_language
from analytics.sites.site import SavedFilter
from report_app.texts import lazy

_LONGEST_CODE = 40


def _is_email(_: FlaskForm, field: Any) -> None:
    if not plain_email(field.data):
        raise ValidationError(gettext("This is not an e-mail address."))


def _has_text(_: FlaskForm, field: Any) -> None:
    if not field.data.strip() or not field.data.isprintable():
        raise ValidationError(gettext("Write a name in printable characters."))


def _has_origins(_: FlaskForm, field: Any) -> None:
    words = (field.data or "").split()
    wrong = [word for word in words if not framing_origin(word)]
    if wrong:
        raise ValidationError(gettext("%(text)s is not an origin such as https://blog.example.", text=wrong[0][:100]))
    if len(words) > MOST_FRAMING_ORIGINS:
        raise ValidationError(gettext("A site has at most %(most)d origins.", most=MOST_FRAMING_ORIGINS))


_REQUIRED = InputRequired(lazy("This field is required."))
_EMAIL = (_REQUIRED, Length(max=LONGEST_EMAIL), _is_email)
_LIVES = [
    SelectChoice("7", lazy("7 days")),
    SelectChoice("30", lazy("30 days")),
    SelectChoice("365", lazy("a year")),
    SelectChoice("", lazy("ever")),
]
_ROLES = [SelectChoice(Role.VIEWER.value, lazy("Viewer")), SelectChoice(Role.EDITOR.value, lazy("Editor"))]
_LANGUAGES = [SelectChoice("", lazy("As the browser asks")), *map(SelectChoice, LANGUAGES, LANGUAGES.values())]
_PASSWORD = Length(
    SHORTEST_PASSWORD,
    LONGEST_PASSWORD,
    lazy("Choose a password of %(min)d to %(max)d characters."),
)


def _browser(autocomplete: str, **more: object) -> Mapping[str, object]:
    """Tells the browser and the password manager what a field is."""
    return {"autocomplete": autocomplete, **more}


class PageForm(FlaskForm):  # type: ignore[misc]
    """A form whose own errors are in the spoken language, too."""

    class Meta(FlaskForm.Meta):  # type: ignore[misc]
        def get_translations(self, form: FlaskForm) -> Any:
            return get_translations([spoken_language()])


class SignInForm(PageForm):
    email = EmailField(lazy("E-mail"), [_REQUIRED], render_kw=_browser("username", autofocus=True))
    password = PasswordField(lazy("Password"), [_REQUIRED], render_kw=_browser("current-password"))


class CodeForm(PageForm):
    code = StringField(
        lazy("Code"), [_REQUIRED, Length(max=_LONGEST_CODE)], render_kw=_browser("one-time-code", autofocus=True)
    )


class JoinForm(PageForm):
    email = EmailField(lazy("E-mail"), _EMAIL, render_kw=_browser("username"))
    name = StringField(
        lazy("Name"), [_REQUIRED, Length(max=LONGEST_PERSON_NAME), _has_text], render_kw=_browser("name")
    )
    password = PasswordField(lazy("Password"), [_REQUIRED, _PASSWORD], render_kw=_browser("new-password"))


class PasswordForm(PageForm):
    current = PasswordField(lazy("Current password"), [_REQUIRED], render_kw=_browser("current-password"))
    new = PasswordField(lazy("New password"), [_REQUIRED, _PASSWORD], render_kw=_browser("new-password"))
    again = PasswordField(
        lazy("New password again"),
        [_REQUIRED, EqualTo("new", lazy("The two new passwords differ."))],
        render_kw=_browser("new-password"),
    )


class TwoStepForm(PageForm):
    secret = HiddenField(validators=[_REQUIRED])
    password = PasswordField(lazy("Password"), [_REQUIRED], render_kw=_browser("current-password"))
    code = StringField(
        lazy("Code from your app"), [_REQUIRED, Length(max=_LONGEST_CODE)], render_kw=_browser("one-time-code")
    )


class OwnPasswordForm(PageForm):
    """For changes that need the password again."""

    password = PasswordField(lazy("Password"), [_REQUIRED], render_kw=_browser("current-password"))


class SharedLinkForm(PageForm):
    name = StringField(lazy("Name"), [_REQUIRED, Length(max=LONGEST_LINK_NAME), _has_text], render_kw=_browser("off"))
    password = PasswordField(
        lazy("Password"),
        [Optional(), Length(SHORTEST_LINK_PASSWORD, LONGEST_PASSWORD)],
        render_kw=_browser("new-password"),
    )
    days = SelectField(lazy("Valid for"), choices=_LIVES)
    saved_filter = SelectField(lazy("Opens with"), default="")

    def offer(self, filters: Iterable[SavedFilter]) -> None:
        """Sets the saved filters that may be chosen."""
        saved = [SelectChoice(str(each.id), each.name) for each in filters]
        self.saved_filter.choices = [SelectChoice("", gettext("no filter")), *saved]


class FramingForm(PageForm):
    origins = TextAreaField(lazy("Origins"), [_has_origins], render_kw=_browser("off", rows=3))

    def read(self) -> list[str]:
        """The origins, each once."""
        return [*dict.fromkeys(filter(None, map(framing_origin, (self.origins.data or "").split())))]


class LanguageForm(PageForm):
    language = SelectField(lazy("Language of the pages"), choices=_LANGUAGES)


class LinkPasswordForm(PageForm):
    password = PasswordField(lazy("Password"), [_REQUIRED], render_kw=_browser("off", autofocus=True))


class InvitationForm(PageForm):
    email = EmailField(lazy("E-mail"), _EMAIL, render_kw=_browser("off"))
    role = SelectField(lazy("Role"), choices=_ROLES)
