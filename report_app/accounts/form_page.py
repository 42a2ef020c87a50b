"""Answers with the page of a form."""

from typing import Any

from flask import render_template
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm

from analytics.languages import gettext


def form_page(template: str, form: FlaskForm, **more: Any) -> ResponseReturnValue:
    """The page with the form and what is wrong with each field. The status is 400 if anything is."""
    return render_template(f"accounts/{template}.html", form=form, **more), 400 if form.errors else 200


def refused(field: Any, message: str) -> bool:
    """Gives the field this error. Always False: the form is refused."""
    field.errors = [gettext(message)]
    return False
