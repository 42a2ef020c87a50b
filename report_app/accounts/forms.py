"""The forms of the account pages. Each field says what is wrong with it."""

from collections.abc import Iterable, Mapping
from typing import Any

from flask_wtf import FlaskForm
from wtforms import EmailField, HiddenField, PasswordField, SelectField, StringField, TextAreaField, ValidationError
from wtforms.fields import SelectChoice
from wtforms.validators import EqualTo, InputRequired, Length, Optional

from analytics.accounts.passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD
from analytics.accounts.sharing import (
    LONGEST_LINK_NAME,
    MOST_FRAMING_ORIGINS,
    SHORTEST_LINK_PASSWORD,
    framing_origin,
)
from analytics.accounts.user import LONGEST_EMAIL, LONGEST_PERSON_NAME, SITE_ROLES, plain_email
from analytics.sites.site import SavedFilter

_LONGEST_CODE = 40


def _is_email(_: FlaskForm, field: Any) -> None:
    if not plain_email(field.data):
        raise ValidationError("This is not an e-mail address.")


def _has_text(_: FlaskForm, field: Any) -> None:
    if not field.data.strip() or not field.data.isprintable():
        raise ValidationError("Write a name in printable characters.")


def _has_origins(_: FlaskForm, field: Any) -> None:
    words = (field.data or "").split()
    wrong = [word for word in words if not framing_origin(word)]
    if wrong:
        raise ValidationError(f"{wrong[0][:100]} is not an origin such as https://blog.example.")
    if len(words) > MOST_FRAMING_ORIGINS:
        raise ValidationError(f"A site has at most {MOST_FRAMING_ORIGINS} origins.")


_REQUIRED = InputRequired("This field is required.")
_EMAIL = (_REQUIRED, Length(max=LONGEST_EMAIL), _is_email)
_LIVES = [
    SelectChoice(days, label) for days, label in {"7": "7 days", "30": "30 days", "365": "a year", "": "ever"}.items()
]
_ROLES = [SelectChoice(role.value, role.value.capitalize()) for role in SITE_ROLES]
_PASSWORD = Length(
    SHORTEST_PASSWORD,
    LONGEST_PASSWORD,
    f"Choose a password of {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.",
)


def _browser(autocomplete: str, **more: object) -> Mapping[str, object]:
    """Tells the browser and the password manager what a field is."""
    return {"autocomplete": autocomplete, **more}


class SignInForm(FlaskForm):  # type: ignore[misc]
    email = EmailField("E-mail", [_REQUIRED], render_kw=_browser("username", autofocus=True))
    password = PasswordField("Password", [_REQUIRED], render_kw=_browser("current-password"))


class CodeForm(FlaskForm):  # type: ignore[misc]
    code = StringField(
        "Code", [_REQUIRED, Length(max=_LONGEST_CODE)], render_kw=_browser("one-time-code", autofocus=True)
    )


class JoinForm(FlaskForm):  # type: ignore[misc]
    email = EmailField("E-mail", _EMAIL, render_kw=_browser("username"))
    name = StringField("Name", [_REQUIRED, Length(max=LONGEST_PERSON_NAME), _has_text], render_kw=_browser("name"))
    password = PasswordField("Password", [_REQUIRED, _PASSWORD], render_kw=_browser("new-password"))


class PasswordForm(FlaskForm):  # type: ignore[misc]
    current = PasswordField("Current password", [_REQUIRED], render_kw=_browser("current-password"))
    new = PasswordField("New password", [_REQUIRED, _PASSWORD], render_kw=_browser("new-password"))
    again = PasswordField(
        "New password again",
        [_REQUIRED, EqualTo("new", "The two new passwords differ.")],
        render_kw=_browser("new-password"),
    )


class TwoStepForm(FlaskForm):  # type: ignore[misc]
    secret = HiddenField(validators=[_REQUIRED])
    password = PasswordField("Password", [_REQUIRED], render_kw=_browser("current-password"))
    code = StringField(
        "Code from your app", [_REQUIRED, Length(max=_LONGEST_CODE)], render_kw=_browser("one-time-code")
    )


class OwnPasswordForm(FlaskForm):  # type: ignore[misc]
    """For changes that need the password again."""

    password = PasswordField("Password", [_REQUIRED], render_kw=_browser("current-password"))


class SharedLinkForm(FlaskForm):  # type: ignore[misc]
    name = StringField("Name", [_REQUIRED, Length(max=LONGEST_LINK_NAME), _has_text], render_kw=_browser("off"))
    password = PasswordField(
        "Password",
        [Optional(), Length(SHORTEST_LINK_PASSWORD, LONGEST_PASSWORD)],
        render_kw=_browser("new-password"),
    )
    days = SelectField("Valid for", choices=_LIVES)
    saved_filter = SelectField("Opens with", default="")

    def offer(self, filters: Iterable[SavedFilter]) -> None:
        """Sets the saved filters that may be chosen."""
        saved = [SelectChoice(str(each.id), each.name) for each in filters]
        self.saved_filter.choices = [SelectChoice("", "no filter"), *saved]


class FramingForm(FlaskForm):  # type: ignore[misc]
    origins = TextAreaField("Origins", [_has_origins], render_kw=_browser("off", rows=3))

    def read(self) -> list[str]:
        """The origins, each once."""
        return [*dict.fromkeys(filter(None, map(framing_origin, (self.origins.data or "").split())))]


class LinkPasswordForm(FlaskForm):  # type: ignore[misc]
    password = PasswordField("Password", [_REQUIRED], render_kw=_browser("off", autofocus=True))


class InvitationForm(FlaskForm):  # type: ignore[misc]
    email = EmailField("E-mail", _EMAIL, render_kw=_browser("off"))
    role = SelectField("Role", choices=_ROLES)
