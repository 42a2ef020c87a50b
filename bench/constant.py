"""A baseline for the ingestion app: the same Flask and gunicorn, and a constant answer."""

from flask import Flask, Response

app = Flask(__name__, static_folder=None)
app.config["ON_LOOP"] = {"/event"}


@app.post("/event")
def constant() -> Response:
    return Response(b'{"success": true, "message": "Event queued successfully"}', mimetype="application/json")
