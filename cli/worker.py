"""`voicemill worker`, `scheduler` and `flower`: the processes of a server, kept by supervisors."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack

import click

from cli import engines, ring
from cli.place import Place, pass_place
from scheduler.settings import SchedulerSettings
from storage import errors, settings
from workers import gpus as chosen_gpus
from workers import idle, supervisor
from workers.engines.engine import EngineSpec, EngineUnavailableError
from workers.spot import door, leave
from workers.spot.settings import LifeSettings

KILL_MARGIN = 5.0  # seconds after its drain is over that a process is killed
FLOWER_COLUMNS = "name,state,args,result,received,runtime,worker"  # its own choice leaves out what tells most
FLOWER_FORGETS = 3600  # seconds after which a worker that has gone leaves the list
SCHEDULER_THREADS = 3  # one may wait for a slow store, one sends webhooks, and one is left to plan
RENDER_THREADS = 2  # two batches at a time feed one engine: the tail of one overlaps the head of the next


class FlowerMissingError(errors.InputError):
    """Flower is not installed here: pip install 'voicemill[flower]'."""


def process_line(app: str, name: str, queues: Sequence[str], threads: int, log_level: str) -> Sequence[str]:
    """The command line of a process that reads these queues. Its name, with our number, is what Flower shows."""
    return [
        sys.executable, "-m", "workers.process", app, "--name", f"{name}-{os.getpid()}", "--queues", ",".join(queues),
        "--threads", str(threads), "--log-level", log_level,
    ]  # fmt: skip


log_level_option = click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)


def _checked_time(context: click.Context, option: click.Parameter, text: str | None) -> str | None:
    try:
        if text is not None:
            idle.seconds(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return text


@click.command("worker")
@click.option(
    "--engine", metavar="NAME", help="Engine to render with. Default: maya1 where it can run, else espeak."
)
@click.option(
    "--gpus", default="all", show_default=True, help="GPUs to render on, one process each: all, 0,2 or none."
)
@click.option(
    "--max-idle", metavar="TIME", callback=_checked_time, help="Leave after so long without work: 90s, 10m, 2h."
)
@click.option("--assemble-only", is_flag=True, help="Only join and encode; load no engine.")
@click.option("--no-assemble", is_flag=True, help="Only render.")
@click.option(
    "--assemble-threads", type=click.IntRange(1, 256), help="Jobs assembled at once. Default: one a core."
)
@log_level_option
@pass_place
def worker(
    place: Place,
    engine: str | None,
    gpus: str,
    max_idle: str | None,
    assemble_only: bool,
    no_assemble: bool,
    assemble_threads: int | None,
    log_level: str,
) -> None:
    """Run a worker: a process for each GPU that renders, and one that assembles, all of them watched.

    A process that fails is started again. SIGTERM, Ctrl-C or a cloud's notice drains them: what is in flight is stored
    or given back; a second signal ends them at once.

    \b
    Example:
      voicemill worker --engine espeak
    """
    if assemble_only and no_assemble:
        raise click.UsageError("--assemble-only and --no-assemble leave nothing to do")
    place.need_server("worker")
    ring.need()
    from workers import broker

    broker.check_times(settings.load(SchedulerSettings).batch_seconds)
    place.database().close()
    if max_idle is not None:
        os.environ["VOICEMILL_MAX_IDLE"] = max_idle
    life = settings.load(LifeSettings)
    children: list[supervisor.Child] = []
    if not assemble_only:
        spec = engines.choose(engine)
        reason = spec.unavailable()
        if reason is not None:
            raise EngineUnavailableError(engine=spec.name, reason=reason)
        line = process_line(
            "workers", f"render-{spec.pool}", [broker.render_queue(spec.pool)], RENDER_THREADS, log_level
        )
        children += supervisor.for_gpus(line, _gpus(spec, gpus), life)
    if not no_assemble:
        threads = assemble_threads or os.cpu_count() or 1
        line = process_line("workers", "assemble", [broker.ASSEMBLE], threads, log_level)
        children.append(supervisor.Child("assembly", line, {"VOICEMILL_SPOT": "off", **_quiet(children)}))
    broker.declare()
    sys.exit(supervised(children, life, door.Door(life.spot_lock)))


def _quiet(others: Sequence[supervisor.Child]) -> dict[str, str]:
    """Probes go to the processes that render; where there are none, to the one that assembles."""
    return {"VOICEMILL_HEALTH_PORT": "", "VOICEMILL_HEARTBEAT_FILE": ""} if others else {}


def _gpus(spec: EngineSpec, wanted: str) -> Sequence[str]:
    """The GPUs that get a process each; engines that need none get one process."""
    if not spec.needs_gpu:
        return []
    try:
        return chosen_gpus.chosen(wanted)
    except chosen_gpus.NoGpuError:
        if wanted != "all":
            raise
        return []  # it said that it can run here all the same


def supervised(
    children: Sequence[supervisor.Child], life: LifeSettings, at_door: door.Door | None = None
) -> int:
    """Run processes until they have left for good: their exit code. A machine's last one at the door tells its cloud."""
    with ExitStack() as stack:
        if at_door is not None:
            stack.callback(at_door.close)
        mark = idle.Mark.new()
        stack.callback(mark.close)
        os.environ[idle.MARK] = str(mark.file)
        watched = supervisor.Supervisor(
            children,
            backoff=lambda: supervisor.Backoff(first=life.restart_seconds, limit=life.restart_limit_seconds),
            kill_after=life.drain_seconds + KILL_MARGIN,
            files=[mark.file],
        )
        if life.max_idle is not None:
            stack.callback(idle.Watch(mark, life.max_idle, watched.stop).close)
        watcher = leave.watch(life, watched.stop)
        stack.callback(watcher.close)
        code = watched.run()
        if at_door is not None and at_door.is_last():
            watcher.acknowledge()
    return code


@click.command("scheduler")
@log_level_option
@pass_place
def scheduler(place: Place, log_level: str) -> None:
    """Run the scheduler: accepts what producers send, plans batches, sweeps what was lost, tells of what has ended.

    Two of them do no harm.

    \b
    Example:
      voicemill scheduler
    """
    place.need_server("scheduler")
    ring.need()
    from scheduler import house
    from workers import broker

    place.database().close()
    house.check_settings()
    broker.declare()
    line = process_line(
        "scheduler.tick", "scheduler", [broker.PLAN, broker.DELIVER], SCHEDULER_THREADS, log_level
    )
    child = supervisor.Child("scheduler", line, {"VOICEMILL_SPOT": "off"})
    sys.exit(supervised([child], settings.load(LifeSettings)))


@click.command("flower")
@click.option("--port", type=click.IntRange(1, 65535), default=5555, show_default=True)
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at. Never expose it: Flower can stop workers.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def flower(port: int, address: str, arguments: tuple[str, ...]) -> None:
    """Run Flower: the workers and their tasks in a browser. More ARGUMENTS go to Flower itself, after --.

    Its page of queues needs RabbitMQ's management, whose URL it reads from FLOWER_BROKER_API; with Redis it needs nothing.

    \b
    Example:
      voicemill flower --port 5555 -- --basic_auth=user:password
    """
    if importlib.util.find_spec("flower") is None:
        raise FlowerMissingError
    ring.need()
    line = [
        sys.executable, "-m", "celery", "-A", "workers", "flower", f"--port={port}", f"--address={address}",
        "--max_tasks=10000", f"--tasks_columns={FLOWER_COLUMNS}", f"--purge_offline_workers={FLOWER_FORGETS}", *arguments,
    ]  # fmt: skip
    os.execv(line[0], line)  # noqa: S606 - no shell: our own interpreter with our own arguments
