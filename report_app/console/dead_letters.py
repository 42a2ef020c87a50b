"""/ops/dead-letters: finds, shows, corrects, replays and purges events that failed permanently."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from flask import Response, abort, request
from werkzeug.wrappers import Response as BaseResponse

from analytics.events.schema import InvalidEvent, load_moment, read_event_json
from analytics.journal.dead_letters import DEATH_REASONS, DeadLetter, DeadLetterStore, LetterFilter
from analytics.journal.journal import Journal
from analytics.journal.replay import replay_all, replay_edited, replay_letter
from analytics.languages import format_number, gettext, ngettext, translatable
from report_app.console.access import owner
from report_app.console.console_page import FieldErrors, console_page, done
from report_app.page_blueprint import PageBlueprint

log = structlog.get_logger()

LETTERS_ON_A_PAGE = 50
LONGEST_SHOWN = 100_000  # bytes of a payload
LONGEST_EDITED = 16_000  # the form that sends it has at most three times as many, within MAX_BODY_BYTES
ONLY_BEGINNING = translatable("Only the beginning of this event is stored. Write the complete event, and replay that.")
REPLAY_SENT = translatable("The event is in the journal again. The dead letter is deleted when the event is stored.")


@dataclass(frozen=True, slots=True)
class LetterQuestion:
    """The filter as the page's form sends it. "" matches all. `unknown`: "1" if only letters without a known site
    match.
    """

    site: str = ""
    reason: str = ""
    before: str = ""
    unknown: str = ""

    @classmethod
    def of(cls, sent: Any) -> "LetterQuestion":
        return cls(*(sent.get(name, "").strip() for name in ("site", "reason", "before", "unknown")))

    def as_filter(self) -> LetterFilter:
        """Ends the request with 400 if `before` is not a time."""
        site_id = "" if self.unknown else self.site or None
        return LetterFilter(site_id, self.reason or None, _moment(self.before))

    def as_args(self) -> dict[str, str]:
        return {name: value for name, value in asdict(self).items() if value}


def add_dead_letters(
    blueprint: PageBlueprint, letters: DeadLetterStore, journal: Journal, clock: Callable[[], datetime]
) -> None:
    @blueprint.get("/ops/dead-letters")
    def dead_letters() -> Response:
        question = LetterQuestion.of(request.args)
        return _list(letters, question, _after())

    @blueprint.get("/ops/dead-letters/<uuid:letter_id>")
    def dead_letter(letter_id: UUID) -> Response:
        return _show(_get(letters, letter_id))

    @blueprint.post("/ops/dead-letters/<uuid:letter_id>/replay")
    def replay_one(letter_id: UUID) -> BaseResponse:
        """The form has the field `event` if the event is to be replaced."""
        letter, event = _get(letters, letter_id), request.form.get("event")
        if refused := _replay(journal, letter, event):
            return _show(letter, event, refused)
        log.info("dead_letter_replayed", letter=str(letter_id), edited=event is not None, by=str(owner().id))
        return done(REPLAY_SENT, "dead_letters")

    @blueprint.get("/ops/dead-letters/<any(replay,purge):verb>")
    def confirm(verb: str) -> Response:
        return _confirm(letters, verb, LetterQuestion.of(request.args))

    @blueprint.post("/ops/dead-letters/replay")
    def replay_many() -> BaseResponse:
        question = LetterQuestion.of(request.form)
        sent = replay_all(journal, letters, question.as_filter())
        log.info("dead_letters_replayed", replayed=sent.replayed, cut=sent.cut, by=str(owner().id))
        said = gettext("Events that are in the journal again: %(count)s.", count=format_number(sent.replayed))
        cut = gettext("Not stored completely: %(count)s.", count=format_number(sent.cut))
        return done(f"{said} {cut}" if sent.cut else said, "dead_letters")

    @blueprint.post("/ops/dead-letters/purge")
    def purge() -> BaseResponse:
        """Purges if `count` is still the number of dead letters that match. Otherwise it asks again."""
        question, now = LetterQuestion.of(request.form), clock()
        which = question.as_filter().until(now)
        if request.form.get("count") != str(_count(letters, which)):
            return _confirm(letters, "purge", question, 409)
        purged = letters.purge(which, now)
        log.info("dead_letters_purged", purged=purged, by=str(owner().id))
        said = ngettext("%(count)s dead letter is purged.", "%(count)s dead letters are purged.", purged)
        return done(said, "dead_letters")


def _list(letters: DeadLetterStore, question: LetterQuestion, after: UUID | None) -> Response:
    which = question.as_filter()
    counts = letters.count(which)
    found = list(letters.find(which, after=after, limit=LETTERS_ON_A_PAGE))
    rows = [(letter, letter.raw[:80].decode(errors="replace")) for letter in found]
    return console_page(
        "dead_letters",
        question=question,
        reasons=DEATH_REASONS,
        counts=counts[:20],
        total=sum(each.count for each in counts),
        rows=rows,
        after=found[-1].id if len(found) == LETTERS_ON_A_PAGE else None,
    )


def _show(letter: DeadLetter, event: str | None = None, refused: FieldErrors | None = None) -> Response:
    payload = letter.raw[:LONGEST_SHOWN].decode(errors="replace")
    return console_page(
        "dead_letter",
        400 if refused else 200,
        within="dead_letters",
        letter=letter,
        detail=json.dumps(letter.detail, indent=2, ensure_ascii=False, default=str),
        payload=payload,
        is_cut=len(letter.raw) < letter.raw_bytes,
        is_long=len(letter.raw) > LONGEST_SHOWN,
        may_edit=letter.raw_bytes <= LONGEST_EDITED,
        event=payload if event is None else event,
        refused=refused or {},
    )


def _replay(journal: Journal, letter: DeadLetter, event: str | None) -> FieldErrors:
    """Replay the letter, or the event in its place. Returns what is wrong with it, by field. Raises Unavailable."""
    if event is None:
        return {} if replay_letter(journal, letter) else {"event": [gettext(ONLY_BEGINNING)]}
    try:
        replay_edited(journal, letter, read_event_json(event.encode(errors="surrogatepass")))
    except InvalidEvent as error:
        return error.fields
    return {}


def _confirm(letters: DeadLetterStore, verb: str, question: LetterQuestion, status: int = 200) -> Response:
    count = _count(letters, question.as_filter())
    return console_page(
        "dead_letters_confirm", status, within="dead_letters", verb=verb, question=question, count=count
    )


def _count(letters: DeadLetterStore, which: LetterFilter) -> int:
    return sum(each.count for each in letters.count(which))


def _get(letters: DeadLetterStore, letter_id: UUID) -> DeadLetter:
    return letters.get(letter_id) or abort(404, gettext("This dead letter was replayed or purged."))


def _after() -> UUID | None:
    try:
        return UUID(request.args["after"]) if "after" in request.args else None
    except ValueError:
        abort(400, gettext("after: Not the id of a dead letter."))


def _moment(text: str) -> datetime | None:
    try:
        return load_moment("before", text)
    except InvalidEvent:
        abort(400, gettext("before: Write a time as 2026-11-28T14:00 (UTC)."))
