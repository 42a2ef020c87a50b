"""/data/<site_id>: applies the site's rules for paths to stored events, and imports files of other systems.

Workers read and import the files (analytics/imports/upload_worker.py), and remove imports.

A site_id may hold slashes, so each route ends with it. It may be a domain of the site instead. Routes raise UnknownSite
and InvalidQuery.
"""

from contextlib import closing
from io import SEEK_END

import structlog
from flask import Response, abort, flash, jsonify, redirect, request, url_for
from werkzeug.datastructures import FileStorage
from werkzeug.wrappers import Response as BaseResponse

from analytics.accounts.user import User
from analytics.imports.store import ImportStore
from analytics.imports.uploads import (
    LARGEST_PART,
    LARGEST_UPLOAD,
    MOST_ROWS_READ,
    MOST_UPLOADS,
    TooManyUploads,
    UploadStore,
    UploadTooLarge,
)
from analytics.languages import gettext, ngettext, translatable
from analytics.segments.builder import apply_path_rules
from analytics.segments.engine import Segments
from analytics.segments.verification import months_of
from report_app.page_access import signed_in_user
from report_app.page_blueprint import PageBlueprint
from report_app.pages.rendering import show
from report_app.site_editor import editor_of
from report_app.site_lookup import SiteLookup

log = structlog.get_logger()

_FORM_BYTES = 10_000  # of the form around the file
_MORE = "more"  # the field of a part that is not the last (report_app/static/uploads.js)

DATA_FOR_EDITORS = translatable("Only an owner or an editor of this site may change its data.")
NO_EVENTS = translatable("There are no events of this site.")
NO_FILE = translatable("Choose a file first.")
TOO_LARGE = translatable("The file is too large. Compress it with gzip or zstd, or use python -m footfall import.")
TOO_MANY_FILES = translatable("A site has at most %(most)d uploaded files. Import or discard one first.")
NO_UPLOAD = translatable("There is no such file to import any more.")
NO_IMPORT = translatable("There is no such import any more.")


def site_data_blueprint(
    segments: Segments, uploads: UploadStore, imports: ImportStore, site_called: SiteLookup
) -> PageBlueprint:
    blueprint = PageBlueprint("site_data", __name__, before_body=_admit_file)

    def edited(name: str) -> tuple[User, str]:
        return editor_of(site_called, name, DATA_FOR_EDITORS)

    @blueprint.get("/data/<path:site_id>", merge_slashes=False)
    def data(site_id: str) -> Response:
        user, site_id = edited(site_id)
        site, records, store = site_called(site_id), imports.list(site_id), segments.store
        removed = {record.id for record, _ in imports.being_removed()}
        return show(
            "accounts/data.html", user=user, site_id=site_id, site=site, removed=removed, largest=LARGEST_UPLOAD,
            largest_part=LARGEST_PART,
            months=segments.backfill.of_sites()[site_id], uploads=uploads.list(site_id),
            applied=store.manifest(site_id).paths == site.rules_for_paths(), differs=store.reads_other_paths(site),
            most_rows=MOST_ROWS_READ, records={record.id: record for record in records},
        )  # fmt: skip

    @blueprint.post("/data-upload/<path:site_id>", merge_slashes=False)
    def upload_file(site_id: str) -> BaseResponse:
        user, site_id = edited(site_id)
        file = request.files.get("file")
        if not file or not file.filename:
            abort(400, gettext(NO_FILE))
        with closing(file):
            upload_id = _keep(uploads, site_id, file)
        if _MORE in request.form:
            return jsonify(upload_id=upload_id)
        log.info("file_uploaded", site_id=site_id, by=str(user.id))
        return done(site_id, gettext("The file is uploaded. A worker reads it."))

    @blueprint.post("/data-import/<upload_id>/<path:site_id>", merge_slashes=False)
    def import_upload(upload_id: str, site_id: str) -> BaseResponse:
        user, site_id = edited(site_id)
        uploads.want(site_id, upload_id) or abort(404, gettext(NO_UPLOAD))
        log.info("import_requested", site_id=site_id, upload_id=upload_id, by=str(user.id))
        return done(site_id, gettext("A worker imports the file."))

    @blueprint.post("/data-discard/<upload_id>/<path:site_id>", merge_slashes=False)
    def discard_upload(upload_id: str, site_id: str) -> BaseResponse:
        _, site_id = edited(site_id)
        uploads.discard(site_id, upload_id) or abort(404, gettext(NO_UPLOAD))
        return done(site_id, gettext("The file is discarded."))

    @blueprint.post("/data-remove-import/<record_id>/<path:site_id>", merge_slashes=False)
    def remove_import(record_id: str, site_id: str) -> BaseResponse:
        user, site_id = edited(site_id)
        record = imports.get(record_id)
        if record is None or record.site_id != site_id:
            abort(404, gettext(NO_IMPORT))
        imports.stop(record_id)
        log.info("import_removal_requested", site_id=site_id, import_id=record_id, by=str(user.id))
        return done(site_id, gettext("A worker removes the events of this import."))

    @blueprint.post("/data-path-rules/<path:site_id>", merge_slashes=False)
    def apply_rules(site_id: str) -> BaseResponse:
        user, site_id = edited(site_id)
        months = months_of(segments, site_id) or abort(400, gettext(NO_EVENTS))
        apply_path_rules(segments.builder, site_called(site_id), months)
        log.info("path_rules_applied", site_id=site_id, months=len(months), by=str(user.id))
        said = ngettext(
            "The workers build %(count)s month again. Its reports show the pages of before until then.",
            "The workers build %(count)s months again. Their reports show the pages of before until then.",
            len(months),
        )
        return done(site_id, said)

    def done(site_id: str, message: str) -> BaseResponse:
        flash(message)
        return redirect(url_for("site_data.data", site_id=site_id), 303)

    return blueprint


def _admit_file() -> None:
    """Only signed-in users may send a body that is as large as a file. Raises Unavailable."""
    if request.endpoint == "site_data.upload_file" and signed_in_user():
        request.max_content_length = LARGEST_PART + _FORM_BYTES


def _keep(uploads: UploadStore, site_id: str, file: FileStorage) -> str:
    """Keep a file, or a part of it. Returns the id of the upload."""
    if file.stream.seek(0, SEEK_END) > LARGEST_PART:
        abort(413, gettext(TOO_LARGE))
    file.stream.seek(0)
    is_last, upload_id = _MORE not in request.form, request.form.get("upload_id", "")
    try:
        if not upload_id:
            return uploads.keep(site_id, file.filename or "", file.stream, is_whole=is_last).id
        number = request.form.get("part", 0, type=int)
        uploads.extend(site_id, upload_id, number, file.stream, is_last=is_last) or abort(404, gettext(NO_UPLOAD))
    except TooManyUploads:
        abort(400, gettext(TOO_MANY_FILES, most=MOST_UPLOADS))
    except UploadTooLarge:
        abort(413, gettext(TOO_LARGE))
    return upload_id
