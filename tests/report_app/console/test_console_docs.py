"""docs/console.md lists each page of the console, and the commands that do the same."""

import re
from pathlib import Path

import click
from flask import Flask

from footfall.__main__ import footfall

DOCUMENT = Path(__file__).parents[3] / "docs" / "console.md"
ROW = re.compile(r"^\| `(/ops[^`]*)` \|[^|]*\| ([^|]*) \|$", re.MULTILINE)
# Steps of another page: a single dead letter, and the page that asks before a replay or a purge.
STEPS = {"/ops/dead-letters/<letter_id>", "/ops/dead-letters/<verb>"}


def test_every_page_is_listed_with_commands_that_exist(app: Flask):
    listed = dict(ROW.findall(DOCUMENT.read_text(encoding="utf-8")))
    pages = {
        re.sub(r"<[^<:]*(?:\([^)]*\))?:", "<", rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/ops") and "GET" in (rule.methods or ())
    }
    assert set(listed) == pages - STEPS
    for commands in listed.values():
        names = re.findall("`([^`]*)`", commands)
        assert names
        for name in names:
            command: click.Command = footfall
            for word in name.split():
                assert isinstance(command, click.Group)
                command = command.commands[word]
