"""`python -m workers.process`: one Celery worker process, as `voicemill worker` and `voicemill scheduler` start them.

It is `celery -A APP worker` without Celery's command line, which imports Flower and a shell at each start.
"""

import argparse
import gc
import sys


def main() -> None:
    """Serve until told to stop; exits with the worker's own code."""
    parser = argparse.ArgumentParser(prog="python -m workers.process", description=__doc__)
    parser.add_argument("app", help="workers or scheduler.tick")
    parser.add_argument("--name", required=True, help="before the @ and the machine's name")
    parser.add_argument("--queues", required=True, help="to read, with commas between them")
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--log-level", default="info")
    given = parser.parse_args()
    gc.disable()  # what is imported now stays: there is no garbage among it
    from celery.app.utils import find_app
    from celery.utils.nodenames import host_format

    worker = find_app(given.app).Worker(
        hostname=host_format(f"{given.name}@%h"),
        pool_cls="threads",
        concurrency=given.threads,
        queues=given.queues.split(","),
        loglevel=given.log_level.upper(),
        without_gossip=True,
        without_mingle=True,
    )
    gc.freeze()
    gc.enable()
    worker.start()
    sys.exit(worker.exitcode)


if __name__ == "__main__":
    main()
