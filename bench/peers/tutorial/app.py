"""What tutorials recommend: a Flask route that starts a Celery task for each event, which inserts one document.

The task is acknowledged after the insert, and the broker is Redis. `make bench-peers` measures it.
"""

import os
from datetime import UTC, datetime
from functools import cache
from typing import Any

from celery import Celery
from flask import Flask, Response, jsonify, request
from pymongo import MongoClient
from pymongo.collection import Collection

celery = Celery("tutorial", broker=os.environ["REDIS_URL"])
celery.conf.update(task_acks_late=True, task_ignore_result=True, broker_connection_retry_on_startup=True)
app = Flask(__name__)


@cache
def events() -> Collection[dict[str, Any]]:
    """Connects after the fork."""
    return MongoClient[dict[str, Any]](os.environ["MONGODB_URI"])["footfall"]["events"]


@celery.task
def store_event(event: dict[str, Any]) -> None:
    events().insert_one({**event, "timestamp": datetime.fromisoformat(event["timestamp"])})


@app.get("/healthz")
def healthz() -> Response:
    return jsonify(status="ok")


@app.post("/event")
def receive_event() -> tuple[Response, int] | Response:
    event = request.get_json(force=True)
    if not event.get("site_id") or not event.get("event_type"):
        return jsonify(error="site_id and event_type are required"), 400
    event.setdefault("timestamp", datetime.now(UTC).isoformat())
    store_event.delay(event | {"user_agent": request.headers.get("User-Agent"), "ip": request.remote_addr})
    return jsonify(success=True, message="Event queued successfully")
