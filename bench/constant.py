"""The least that an app of ours can do: the same Flask and gunicorn, and an answer that never changes."""

from flask import Flask, Response

app = Flask(__name__, static_folder=None)


@app.post("/event")
def constant() -> Response:
    return Response(b'{"success": true, "message": "Event queued successfully"}', mimetype="application/json")
