"""Servers of our own: Postgres, Redis, RabbitMQ and S3 on free ports, in temporary folders.

    with servers.Postgres() as postgres:
        print(postgres.url)
        postgres.kill()      # as a crash
        postgres.start()     # the same port, the same data

Each needs nothing but its binaries, keeps away from the machine's own, and leaves neither process nor folder,
even where we are killed ourselves: a watcher process that outlives us cleans up.

`python -m tests.servers postgres redis` runs some until Ctrl-C.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

PORTS = range(20_000, 32_000)  # below what Linux gives to outgoing connections, so that a port stays ours
START_TIMEOUT = 90.0  # seconds: a broker on a busy machine of two cores
STOP_TIMEOUT = 30.0  # seconds
POLL = 0.02  # seconds

WATCHER = """
import os, shutil, signal, sys, time
folder, crash = sys.argv[1], int(sys.argv[2])
sys.stdin.read()  # ends when the process that holds the other end does, however that comes about
try:
    processes = [int(line) for line in open(folder + "/processes")]
except OSError:
    processes = []
for sent in (crash, signal.SIGKILL):
    for process in list(processes):
        try:
            os.killpg(process, sent)
        except OSError:
            processes.remove(process)
    if processes and sent != signal.SIGKILL:
        time.sleep(1)
shutil.rmtree(folder, ignore_errors=True)
"""


class ServerMissingError(Exception):
    """A server cannot be run here, since it is not installed."""


class Server:
    """One server. `start`, `stop`, `kill` and `restart` keep its port and its data, `close` ends all."""

    name: ClassVar[str]
    crash_signal: ClassVar[signal.Signals] = signal.SIGKILL

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"voicemill-{self.name}-"))
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WATCHER, str(self.folder), str(int(self.crash_signal))],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self.prepare()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Where clients find it."""
        raise NotImplementedError

    @property
    def addresses(self) -> dict[str, str]:
        """Everything a client in another process needs."""
        return {"url": self.url}

    @property
    def runs(self) -> bool:
        """Whether it was started, and not stopped or killed since."""
        return bool(self._processes)

    def prepare(self) -> None:
        """Whatever comes before the first start."""

    def commands(self) -> list[list[str]]:
        """The processes it is made of, the server itself last."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether it answers. An OSError says no."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """What its processes see: nothing of ours."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), "LANG": "C.UTF-8"}

    def user(self) -> str | None:
        """Whom it runs as, None for whoever we are."""
        return None

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert not self._processes, f"{self.name} runs already"
        with (self.folder / "log").open("ab") as log:
            self._processes = [
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self.environment(),
                    cwd=self.folder,
                    user=self.user(),
                    start_new_session=True,  # Ctrl-C is for us, who end it in order
                )
                for command in self.commands()
            ]
        (self.folder / "processes").write_text("".join(f"{process.pid}\n" for process in self._processes))
        self._wait_until_ready()

    def stop(self) -> None:
        """End it in its own good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(self.crash_signal)

    def freeze(self) -> None:
        """Let it hang: it keeps its connections and answers nothing."""
        self._processes[-1].send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._processes[-1].send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """End it in good order and start it again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it, at once, and remove everything of it."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._watcher.communicate()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log(self) -> str:
        """The end of what it has said."""
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            with suppress(OSError):
                if self.ready():
                    return
            if self._processes[-1].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start:\n{self.log()}")
            time.sleep(POLL)

    def _end(self, sent: signal.Signals) -> None:
        for process in reversed(self._processes):
            with suppress(ProcessLookupError):
                process.send_signal(sent)
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._processes = []
        (self.folder / "processes").write_text("")


class Postgres(Server):
    """PostgreSQL that trusts in power: its own crash loses nothing, one of the machine may."""

    name = "postgres"
    crash_signal = signal.SIGQUIT  # an "immediate shutdown": no checkpoint, and no shared memory left behind

    @property
    def url(self) -> str:
        """The database `postgres`, as its superuser."""
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def user(self) -> str | None:
        """Postgres refuses to run as root."""
        return "postgres" if os.geteuid() == 0 else None

    def prepare(self) -> None:
        """Make the cluster."""
        if user := self.user():
            shutil.chown(self.folder, user)
        subprocess.run(
            [
                *(find("initdb", *_postgres_folders()), "-D", self.folder / "data", "-U", "postgres"),
                *("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
            env=self.environment(),
            user=self.user(),
        )

    def commands(self) -> list[list[str]]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "max_connections": "300",
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
        }
        chosen = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        postgres = find("postgres", *_postgres_folders())
        return [[postgres, "-D", str(self.folder / "data"), "-p", str(self.port), *chosen]]

    def stop(self) -> None:
        """End it, and its clients' connections with it ("fast shutdown")."""
        self._end(signal.SIGINT)

    def ready(self) -> bool:
        import psycopg

        with suppress(psycopg.OperationalError):
            psycopg.connect(self.url, connect_timeout=5).close()
            return True
        return False


class Redis(Server):
    """Redis, with an append-only file so that a restart finds its data."""

    name = "redis"
    databases = 10_000

    @property
    def url(self) -> str:
        """Its database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        find("redis-server")

    def commands(self) -> list[list[str]]:
        return [
            [
                *(
                    find("redis-server"),
                    "--port",
                    str(self.port),
                    "--bind",
                    "127.0.0.1",
                    "--dir",
                    str(self.folder),
                ),
                *(
                    "--save",
                    "",
                    "--appendonly",
                    "yes",
                    "--appendfsync",
                    "no",
                    "--databases",
                    str(self.databases),
                ),
            ]
        ]

    def ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"


class RabbitMQ(Server):
    """A RabbitMQ node with its own epmd (the port mapper of Erlang), so that it never meets the machine's."""

    name = "rabbitmq"

    def __init__(self, *, management: bool = False) -> None:
        self.management_port = free_port() if management else None
        self._distribution_port, self._epmd_port = free_port(), free_port()
        super().__init__()

    @property
    def url(self) -> str:
        """Its vhost `/`."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def management_url(self) -> str:
        """Its web server, with the HTTP API at `/api`. User and password are guest."""
        assert self.management_port, "RabbitMQ(management=True) has one"
        return f"http://127.0.0.1:{self.management_port}"

    def prepare(self) -> None:
        find("epmd")
        self._binary()
        lines = [f"listeners.tcp.default = 127.0.0.1:{self.port}"]
        if self.management_port:
            lines += ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {self.management_port}"]
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        plugins = "rabbitmq_management" if self.management_port else ""
        (self.folder / "plugins").write_text(f"[{plugins}].\n")

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_ALLOW_INPUT": "1",  # the script becomes Erlang, rather than its parent
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_NODENAME": f"voicemill{self.port}@localhost",
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
        }

    def commands(self) -> list[list[str]]:
        return [[find("epmd"), "-port", str(self._epmd_port)], [self._binary(), "-noinput"]]

    def ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"  # the method frame of Connection.Start

    @property
    def addresses(self) -> dict[str, str]:
        """The broker's, and the management's where it has one."""
        return super().addresses | ({"management_url": self.management_url} if self.management_port else {})

    def _binary(self) -> str:
        """Debian's command on the PATH is a wrapper that changes users; the script itself lies here."""
        return find("rabbitmq-server", "/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/opt/rabbitmq/sbin")


class S3(Server):
    """Moto's S3. Its objects live in memory: a restart has none."""

    name = "s3"

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def commands(self) -> list[list[str]]:
        return [[sys.executable, str(Path(__file__).with_name("s3_server.py")), str(self.port)]]

    def ready(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/moto-api/data.json", timeout=5) as answer:
            return bool(answer.status == 200)


KINDS: dict[str, type[Server]] = {kind.name: kind for kind in (Postgres, Redis, RabbitMQ, S3)}
_given_ports: set[int] = set()


def free_port() -> int:
    """A port that nobody listens at, and that was not given out before."""
    for _ in range(1000):
        port = random.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            if port not in _given_ports:
                _given_ports.add(port)
                return port
    raise RuntimeError(f"no free port from {PORTS.start} to {PORTS.stop}")


def find(binary: str, *folders: str | Path) -> str:
    """A binary in one of the folders or on the PATH. Raises ServerMissingError."""
    path = os.pathsep.join(
        [*map(str, folders), os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
    )
    found = shutil.which(binary, path=path)
    if found is None:
        raise ServerMissingError(f"{binary} is not installed: see tests/README.md")
    return found


def _postgres_folders() -> list[Path]:
    """Where Debian keeps what is not on the PATH, the newest first."""
    return sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True
    )


def add_vhost(management_url: str, name: str) -> None:
    """Make a vhost of a RabbitMQ that guest may use."""
    _manage(f"{management_url}/api/vhosts/{name}", "PUT", {})
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    _manage(f"{management_url}/api/permissions/{name}/guest", "PUT", everything)


def remove_vhost(management_url: str, name: str) -> None:
    """Remove a vhost with all that is in it."""
    _manage(f"{management_url}/api/vhosts/{name}", "DELETE", {})


def add_user(management_url: str, name: str, password: str, vhost: str) -> None:
    """Make a user of a RabbitMQ who may use a vhost, and see it in the management."""
    _manage(f"{management_url}/api/users/{name}", "PUT", {"password": password, "tags": "management"})
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    _manage(f"{management_url}/api/permissions/{vhost}/{name}", "PUT", everything)


def remove_user(management_url: str, name: str) -> None:
    """Remove a user."""
    _manage(f"{management_url}/api/users/{name}", "DELETE", {})


def _manage(url: str, method: str, body: dict[str, str]) -> None:
    """One request to RabbitMQ's management API, as guest."""
    request = urllib.request.Request(
        url,
        method=method,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="},
    )
    urllib.request.urlopen(request, timeout=30).close()


def main(names: Sequence[str]) -> None:
    """Run some servers until Ctrl-C."""
    with ExitStack() as stack:
        for name in names or KINDS:
            begun = time.monotonic()
            server = stack.enter_context(KINDS[name]())
            print(f"{name}: {server.url} ({time.monotonic() - begun:.1f} s)", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
