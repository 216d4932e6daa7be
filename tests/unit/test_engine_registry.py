import logging
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from workers.engines import registry
from workers.engines.espeak import SPEC


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Whatever a test installs is forgotten with it."""
    forget()
    yield
    forget()


def forget() -> None:
    registry._entry_points.cache_clear()
    registry._load.cache_clear()


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str, *, package: str) -> None:
    """A package of somebody else's, with one engine, on the path."""
    (folder / f"{package}.py").write_text(code)
    information = folder / f"{package}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[voicemill.engines]\n{name} = {package}:SPEC\n")
    monkeypatch.syspath_prepend(folder)
    theirs, ours = (
        metadata.entry_points(group=registry.GROUP, name=name),
        [entry for entry in metadata.entry_points(group=registry.GROUP) if entry.name != name],
    )
    mine = [entry for entry in theirs if entry.value.startswith(package)]
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [*ours, *mine])
    monkeypatch.delitem(sys.modules, package, raising=False)
    forget()


def test_espeak_is_registered() -> None:
    assert registry.specs()["espeak"] is SPEC
    assert registry.spec("espeak") is SPEC


def test_an_unknown_engine() -> None:
    with pytest.raises(
        registry.UnknownEngineError, match=r"'espek' \(did you mean 'espeak'\?\). There are .*espeak"
    ):
        registry.spec("espek")


def test_somebody_elses_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "theirs", "from workers.engines.espeak import SPEC", package="theirs_good")
    assert registry.specs().keys() >= {"theirs", "espeak"}


@pytest.mark.parametrize(
    ("code", "package", "reason"),
    [
        ("import not_there_at_all", "theirs_import", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("1 / 0", "theirs_zero", "ZeroDivisionError"),
        ("SPEC = object()", "theirs_object", "is no engine specification, it has no 'load'"),
    ],
)
def test_a_broken_engine_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    code: str,
    package: str,
    reason: str,
) -> None:
    install(tmp_path, monkeypatch, "theirs", code, package=package)
    with caplog.at_level(logging.WARNING):
        assert "theirs" not in registry.specs()
    (record,) = caplog.records
    assert record.exc_info is None
    assert f"The engine theirs ({package}) cannot be used: " in record.message
    with pytest.raises(registry.BrokenEngineError, match=reason) as caught:
        registry.spec("theirs")
    assert "\n" not in str(caught.value)


def maya1(monkeypatch: pytest.MonkeyPatch, folder: Path, package: str, answer: object) -> None:
    code = (
        "from workers.engines.espeak.spec import EspeakSpec\n"
        "class Spec(EspeakSpec):\n    name = 'maya1'\n"
        f"    def unavailable(self):\n        return {answer!r}\nSPEC = Spec()\n"
    )
    install(folder, monkeypatch, "maya1", code, package=package)


def test_maya1_is_preferred_where_it_can_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maya1(monkeypatch, tmp_path, "maya1_here", None)
    spec, reason = registry.default()
    assert (spec.name, reason) == ("maya1", "maya1 can run here")


def test_else_espeak_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maya1(monkeypatch, tmp_path, "maya1_not_here", "there is no GPU.")
    spec, reason = registry.default()
    assert (spec.name, reason) == ("espeak", "maya1 cannot run here: there is no GPU")


def test_a_broken_maya1_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "maya1", "import nothing_such", package="maya1_broken")
    spec, reason = registry.default()
    assert spec.name == "espeak"
    assert "nothing_such" in reason
