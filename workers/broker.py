"""The broker as Voicemill uses it: which queues there are, and every setting with its reason.

A message is a doorbell. It may be lost, doubled or late: the database decides what is done (`storage.batches`), and the
sweep rings again. Sources for the settings: Celery's and kombu's documentation, and runs against real brokers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu import Connection, Exchange, Queue

from storage import errors, settings
from workers.engines import registry
from workers.settings import QueueSettings, WorkerSettings

ASSEMBLE, PLAN, DELIVER, SUBMIT, DEAD = "assemble", "plan", "deliver", "submit", "dead"
CONSUMER_TIMEOUT = (
    1800  # seconds that RabbitMQ waits for an acknowledgement, unless its configuration says otherwise
)
DELIVERY_LIMIT = (
    1000  # a drain returns messages: RabbitMQ 4's default of 20 would drop what is often interrupted
)
CONNECT_TIMEOUT = 4  # seconds

_EXCHANGE = Exchange("voicemill", type="topic", durable=True)  # topic: native delayed delivery needs one
_DEAD_EXCHANGE = Exchange("voicemill.dead", type="fanout", durable=True)


class NoBrokerError(errors.InputError):
    """No broker is set. Set VOICEMILL_BROKER_URL to amqp://user:password@host/vhost or redis://host:6379/0."""


class BrokerUnreachableError(errors.VoicemillError):
    """The broker {url} cannot be reached: {reason}. What is in the database is safe; work goes on when it is back."""


class TimesOverlapError(errors.InputError):
    """A batch may take up to {longest:.0f} s, and the broker hands out again what takes {limit:.0f} s. {advice}"""


def url() -> str:
    """The broker's URL, secrets and all. Raises NoBrokerError."""
    found = settings.load(QueueSettings).broker_url
    if found is None:
        raise NoBrokerError
    return found.get_secret_value()


def shown_url() -> str:
    """The broker's URL as people may see it."""
    return str(Connection(url()).as_uri())


def is_redis() -> bool:
    """Whether the broker is Redis; else it is RabbitMQ."""
    return url().lower().startswith("redis")


def render_queue(pool: str) -> str:
    """The queue of batches for a pool."""
    return f"render.{pool}"


def queues() -> list[Queue]:
    """Every queue: one a pool, and one for each other kind of work."""
    pools = sorted({spec.pool for spec in registry.specs().values()})
    return [_queue(name) for name in (*map(render_queue, pools), ASSEMBLE, PLAN, DELIVER, SUBMIT)]


def submit_queue() -> Queue:
    """Where producers send their jobs to."""
    return _queue(SUBMIT)


def dead_letters() -> Queue:
    """Where RabbitMQ puts what no consumer could make sense of."""
    return Queue(DEAD, _DEAD_EXCHANGE, durable=True, queue_arguments={"x-queue-type": "quorum"})


def declare() -> None:
    """Make every queue on the broker, so that messages may come before any worker. Raises BrokerUnreachableError."""
    with _connected() as connection:
        channel = connection.default_channel
        for queue in (*queues(), *(() if is_redis() else (dead_letters(),))):
            queue(channel).declare()


def version() -> str:
    """What answers at the broker's URL: `RabbitMQ 4.1.2`. Raises BrokerUnreachableError."""
    with _connected() as connection:
        if is_redis():
            return f"Redis {connection.default_channel.client.info('server')['redis_version']}"
        told = connection.connection.server_properties
        return f"{told.get('product', 'AMQP')} {told.get('version', '')}".strip()


@contextmanager
def _connected() -> Iterator[Any]:
    try:
        with Connection(
            url(), connect_timeout=CONNECT_TIMEOUT, transport_options=transport_options()
        ) as connection:
            connection.ensure_connection(max_retries=1)
            yield connection
    except connection_errors() as error:
        raise BrokerUnreachableError(url=shown_url(), reason=str(error).rstrip(".")) from error


def connection_errors() -> tuple[type[BaseException], ...]:
    """What a broker that is away raises."""
    from kombu.exceptions import OperationalError

    connection = Connection(url())
    return (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors)


def check_times(batch_seconds: float) -> None:
    """Refuse settings in which a batch could outlast a broker's patience. Raises TimesOverlapError.

    A batch is sized to `batch_seconds` of measured speed; one in ten takes longer than that, none three times as long.
    Redis' clock starts at delivery, so the batch that waits prefetched behind a running one counts too.
    """
    longest = 3 * batch_seconds + settings.load(WorkerSettings).lease_seconds
    if is_redis():
        limit = float(settings.load(QueueSettings).visibility_timeout)
        advice = "Raise VOICEMILL_VISIBILITY_TIMEOUT or lower VOICEMILL_BATCH_SECONDS."
    else:
        limit = float(CONSUMER_TIMEOUT)
        advice = "Lower VOICEMILL_BATCH_SECONDS."
    if 2 * longest > limit:
        raise TimesOverlapError(longest=2 * longest, limit=limit, advice=advice)


def transport_options() -> dict[str, Any]:
    """kombu's options for the broker in use."""
    if not is_redis():
        return {"confirm_publish": True, "max_retries": 2, "interval_start": 0, "interval_step": 0.2}
    mine = settings.load(QueueSettings)
    return {
        "visibility_timeout": mine.visibility_timeout,
        "unacked_restore_interval": 15,  # by default a restored message may wait for 100 s more
        "unacked_restore_throttle": 1,
        "global_keyprefix": mine.redis_prefix,
        "socket_timeout": 30,  # by default a half-open connection blocks a publisher for ever
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "max_retries": 2,
        "interval_start": 0,
        "interval_step": 0.2,
    }


def celery_settings() -> dict[str, Any]:
    """Celery's configuration, each line with its reason."""
    return {
        "broker_url": url(),
        "broker_transport_options": transport_options(),
        "broker_connection_timeout": CONNECT_TIMEOUT,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # by default a worker gives up after 100
        "broker_channel_error_retry": False,  # true would turn a consumer time-out into endless doubles
        "task_queues": queues(),
        "task_default_queue": PLAN,
        "task_default_exchange": _EXCHANGE.name,
        "task_default_exchange_type": _EXCHANGE.type,
        "task_create_missing_queues": False,  # a typing error fails instead of filling a queue that nobody reads
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,  # the database is the one truth
        "task_acks_late": True,  # a message of a dead machine is handed out again
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure": True,  # failures live in the database
        "task_acks_on_timeout": True,
        "task_publish_retry": True,
        "task_publish_retry_policy": {
            "max_retries": 2,
            "interval_start": 0,
            "interval_step": 0.2,
        },
        "worker_prefetch_multiplier": 1,  # reserve only what is run
        "worker_pool": "threads",  # one process, one GPU, one engine
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # threads cannot be cancelled
        "worker_send_task_events": True,  # Flower would miss the names of what began before it asked
        "task_send_sent_event": False,  # Flower would show every ring for the planner as a task that never begins
        "worker_hijack_root_logger": False,
        "worker_enable_remote_control": True,
        "beat_max_loop_interval": 1,
    }


def _queue(name: str) -> Queue:
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": _DEAD_EXCHANGE.name,
    }
    return Queue(name, _EXCHANGE, routing_key=name, durable=True, queue_arguments=arguments)
