"""Who may import whom: rooms only downwards, modules never in a circle, and nothing heavy before it is needed."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BELOW = {  # what each room may import, itself apart
    "cli": {"scheduler", "workers", "storage"},
    "scheduler": {"workers", "storage"},
    "workers": {"storage"},
    "storage": {"migrations"},  # for Alembic to find its scripts
    "migrations": {"storage"},
}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in BELOW
    for path in sorted((ROOT / room).rglob("*.py"))
}
HEAVY = ("torch", "triton", "transformers", "onnx", "tensorrt_rtx")
IMPORT_ALL = """
import importlib, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
heavy = sys.argv[1].split(",")
print(*sorted({name.partition(".")[0] for name in sys.modules}.intersection(heavy)))
"""


@pytest.mark.parametrize("room", BELOW)
def test_rooms_import_downwards_only(room: str) -> None:
    upwards = [
        f"{name}:{line} imports {imported}"
        for name in MODULES
        if room_of(name) == room
        for imported, line, _ in imports(name)
        if room_of(imported) in BELOW.keys() - BELOW[room] - {room}
    ]
    assert not upwards


def test_storage_needs_migrations_only_when_it_migrates() -> None:
    early = [
        f"{name}:{line}"
        for name in MODULES
        if room_of(name) == "storage"
        for imported, line, at_once in imports(name)
        if at_once and room_of(imported) == "migrations"
    ]
    assert not early


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        name: {imported for imported, _, at_once in imports(name) if at_once and imported in MODULES} - {name}
        for name in MODULES
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_nothing_heavy_is_loaded_before_an_engine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEMILL_BROKER_URL", "redis://127.0.0.1:1/0")  # the Celery app asks for one at once
    apart = re.compile(
        r"workers\.engines\.maya1\..*|migrations\..*|.*\.__main__"
    )  # the engine; what runs at once
    light = [name for name in MODULES if not apart.fullmatch(name)]
    assert import_in_a_fresh_process(light, HEAVY) == ""


def test_the_command_line_needs_no_extra() -> None:
    extras = "torch triton celery kombu redis amqp boto3 botocore psycopg flower huggingface_hub tokenizers safetensors"
    wanted = ["cli.main", "scheduler.embedded", "workers.engines.espeak", "workers.engines.maya1"]
    assert import_in_a_fresh_process(wanted, extras.split()) == ""


def test_the_gate_runs_with_known_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    for extra in project["project"]["optional-dependencies"].values():
        named += extra
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    wanted = {re.match(r"[\w-]+", requirement)[0] for requirement in named}  # type: ignore[index]
    assert wanted - pinned == {"voicemill"}  # an extra may name others of ours


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imports(name: str) -> Iterator[tuple[str, int, bool]]:
    """What a module imports of ours: the module, the line, and whether as soon as it is imported itself."""
    tree = ast.parse(MODULES[name].read_text())
    at_once = set(map(id, run_at_import(tree)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) in at_once
        elif isinstance(node, ast.ImportFrom):
            package = origin(name, node)
            for alias in node.names:
                module = f"{package}.{alias.name}"
                yield module if module in MODULES else package, node.lineno, id(node) in at_once


def run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that is not inside a function, nor under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from run_at_import(node)


def origin(name: str, node: ast.ImportFrom) -> str:
    """The package that a `from … import` names, dots and all."""
    if not node.level:
        return node.module or ""
    parts = name.split(".")
    parts = parts[: len(parts) - node.level + (MODULES[name].name == "__init__.py")]
    return ".".join([*parts, *([node.module] if node.module else [])])


def import_in_a_fresh_process(names: list[str], unwanted: tuple[str, ...] | list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, ",".join(unwanted), *names], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
