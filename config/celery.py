"""Celery's settings, each with its reason. Source of the measurements: docs/decisions/0001-journal.md."""

from typing import Any
from urllib.parse import urlsplit

from config.settings import Settings

EVENTS_QUEUE = "events"
DEAD_LETTERS_QUEUE = "dead_letters"
# Segments have their own queue, so that no event waits behind a build.
SEGMENTS_QUEUE = "segments"
QUEUES = (EVENTS_QUEUE, DEAD_LETTERS_QUEUE, SEGMENTS_QUEUE)  # each needs a worker: Procfile, docker-compose.yml


def celery_settings(settings: Settings) -> dict[str, Any]:
    return {
        "broker_url": _broker_url(settings),
        "broker_use_ssl": _broker_tls(settings),
        "task_default_queue": EVENTS_QUEUE,  # the queue's name is also its Redis key: `redis-cli llen events`
        "task_routes": {
            "tasks.dead_letters.*": {"queue": DEAD_LETTERS_QUEUE},
            "tasks.segments.*": {"queue": SEGMENTS_QUEUE},
            "tasks.archive.*": {"queue": SEGMENTS_QUEUE},
            "tasks.retention.*": {"queue": SEGMENTS_QUEUE},
            "tasks.visitors.*": {"queue": SEGMENTS_QUEUE},
            "tasks.imports.*": {"queue": SEGMENTS_QUEUE},
            "tasks.notifications.*": {"queue": SEGMENTS_QUEUE},  # they must not delay events either
        },
        # No code waits for a result. A task's result is in its log line and, through its event, in Flower.
        "task_ignore_result": True,
        # Acks: a lost wake-up does no harm. But if a process crashes, its task should be delivered again under the same
        # id, which identifies the events that it had taken.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,  # a higher number would hide wake-ups from other workers
        "worker_concurrency": settings.worker_concurrency,
        # Time limits: a full batch takes about 0.1 s, and the slowest failure of each of its two writes 10 s.
        "task_soft_time_limit": 25,
        "task_time_limit": 30,
        # kB. A process that built a large segment does not return its memory (280 MB after 150,000 events, 120 MB
        # before), and in time each process builds one. Such a process is replaced after its task.
        "worker_max_memory_per_child": 256_000,
        "worker_soft_shutdown_timeout": 20,  # after SIGQUIT; SIGTERM waits for running tasks
        # They cannot be acked any more, and running twice is harmless.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # a broker may be unreachable for hours
        "broker_transport_options": {
            "visibility_timeout": 120,  # above the time limit and every retry's countdown
            # With the defaults, abandoned messages are restored up to 100 s late.
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 30,
            # By default, publishing blocks for ever if Redis accepts the connection and does not answer.
            "socket_timeout": 1,
            "socket_connect_timeout": 1,
            "retry_on_timeout": False,
            **_sentinel_options(settings),
        },
        "task_publish_retry": False,  # a lost wake-up is harmless, a blocked publisher is not
        "task_serializer": "json",
        "accept_content": ["json"],  # never pickle, because it runs code
        "worker_send_task_events": True,  # Flower needs them
        "worker_hijack_root_logger": False,  # config/logs.py formats every line
        "worker_redirect_stdouts": False,
        "timezone": "UTC",
        # beat checks every second whether a wake-up is owed (tasks/beat.py). It keeps no schedule file, which a kill -9
        # could damage.
        "beat_scheduler": "tasks.beat:OwedScheduler",
        "beat_max_loop_interval": 1,
        "beat_schedule": {
            "store-events": _every(1, "tasks.events.store_events"),
            "carry-ledger": _every(60, "tasks.ledger.carry_ledger"),
            "take-sample": _every(60, "tasks.samples.take_sample", expires=50),
            "destroy-salts": _every(600, "tasks.salts.destroy_salts"),
            "publish-sites": _every(60, "tasks.sites.publish_sites", expires=50),
            # Sent if a build is due (tasks/beat.py). Expires when the next one is about to be sent.
            "build-segments": _every(5, "tasks.segments.build_segments", expires=10),
            "collect-segments": _every(600, "tasks.segments.collect_segments", expires=300),
            # Sent if an erasure is owed (tasks/beat.py).
            "finish-erasures": _every(5, "tasks.retention.finish_erasures", expires=10),
            # Sent if a sign-in is noted (tasks/beat.py).
            "assign-visits": _every(5, "tasks.visitors.assign_visits", expires=10),
            # Sent if a file was uploaded, or an import is to be removed (tasks/beat.py).
            "work-uploads": _every(5, "tasks.imports.work_uploads", expires=10),
            "check-rules": _every(60, "tasks.notifications.check_rules", expires=50),
            "check-counts": _every(300, "tasks.notifications.check_counts", expires=240),
            # Sent if a notification is due (tasks/beat.py).
            "send-notifications": _every(5, "tasks.notifications.send_notifications", expires=10),
            # Every hour, because at each hour a day begins in some time zone.
            "purge-expired": _every(3600, "tasks.retention.purge_expired", expires=1800),
            # Also every hour: late events reach the archive, and erased visitors leave it.
            **({"archive-days": _every(3600, "tasks.archive.archive_days", expires=1800)} if settings.archive else {}),
        },
    }


def _every(seconds: float, task: str, expires: int | None = None) -> dict[str, Any]:
    """An entry of beat's schedule. A message that waits for longer than `expires` seconds is not run."""
    return {"task": task, "schedule": seconds, "options": {"expires": expires} if expires else {}}


def _broker_url(settings: Settings) -> str:
    """The URL of the broker. kombu tries the sentinels' URLs in turn, so each has user, password and database."""
    parts = urlsplit(settings.redis_url)
    if not settings.sentinels:
        return parts._replace(query="").geturl() if parts.scheme == "rediss" else settings.redis_url
    login = parts.netloc.rpartition("@")[0]
    sentinels = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in settings.sentinels)
    return ";".join(f"sentinel://{login}{'@' if login else ''}{address}{parts.path}" for address in sentinels)


def _broker_tls(settings: Settings) -> dict[str, Any] | bool:
    """The options of TLS in REDIS_URL, as redis-py reads them, or False. By default, kombu would accept any certificate
    of a broker whose URL starts with rediss://.
    """
    from redis.connection import parse_url  # noqa: PLC0415  Flower reads its settings before it loads the client

    if not settings.redis_url.startswith("rediss://"):
        return False
    given = parse_url(settings.redis_url)  # type: ignore[no-untyped-call]
    return {"ssl_cert_reqs": "required"} | {name: value for name, value in given.items() if name.startswith("ssl_")}


def _sentinel_options(settings: Settings) -> dict[str, Any]:
    if not settings.sentinels:
        return {}
    return {"master_name": settings.redis_master_name, "sentinel_kwargs": settings.sentinel_options}
