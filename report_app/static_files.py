"""/static/<path>: the style sheets of the pages. Public."""

from report_app.page_blueprint import PageBlueprint


def static_blueprint() -> PageBlueprint:
    return PageBlueprint("static_files", "report_app", static_folder="static", static_url_path="/static")
