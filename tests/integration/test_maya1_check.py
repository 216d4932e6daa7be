"""`voicemill model`: fetched from a hub that speaks the real one's protocol, and measured against transformers."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import transformers
from click.testing import CliRunner
from transformers import LlamaForCausalLM

from cli import model as commands
from storage import settings
from tests import tiny_maya1
from workers.engines.maya1 import SPEC, check, checkpoint, decode, prompt
from workers.engines.maya1.kernels import plain
from workers.engines.maya1.model import Model
from workers.engines.maya1.settings import Maya1Settings

torch.set_num_threads(1)
transformers.logging.disable_progress_bar()

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LATER = COMMIT[::-1]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_maya1.make(tmp_path_factory.mktemp("maya1"))


@pytest.fixture
def configured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOICEMILL_MAYA1_MODEL", str(folder / "model"))
    monkeypatch.setenv("VOICEMILL_MAYA1_SNAC", str(folder / "snac"))
    monkeypatch.setenv("VOICEMILL_MAYA1_DEVICE", "cpu")
    return folder


def test_masses_equal_those_of_transformers(configured: Path) -> None:
    opened = checkpoint.open_directory(configured / "model")
    cpu = torch.device("cpu")
    model = Model(opened.shape, opened.load(cpu, torch.float32), plain, 600)
    prompts = prompt.Prompts(opened.tokenizer, double_bos=True)
    with torch.inference_mode():
        take = check._takes(model, prompts, ["A word or two."], 600)[0]
        mine = check._steps(model, opened.whole_head(cpu, torch.float32), take)
    theirs = LlamaForCausalLM.from_pretrained(configured / "model", dtype=torch.float32).eval()
    ids = decode.known(take)
    with torch.inference_mode():
        rows = theirs(torch.tensor([ids])).logits[0, len(take.prompt) - 1 : -1].softmax(-1).double()
    assert len(mine) == len(rows) == len(take.codes) // 2
    for step, (row, token) in enumerate(zip(rows, ids[len(take.prompt) :], strict=True)):
        first = 128_266 + 4096 * (step % 7)
        legal = row[first : first + 4096].sum() + (row[128_258] if step % 7 == 0 else 0)
        wanted = [float(1 - legal), float(row[128_258]), float((row[token] / legal).log()), step % 7]
        assert mine[step].tolist() == pytest.approx(wanted, abs=2e-5, rel=1e-4)


def test_check_compares_both_forms(configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = check.measure(settings.load(Maya1Settings), ["One.", "Two words <sigh> here."])
    assert [m.bos for m in measured] == ["double", "single"]
    for one in measured:
        assert one.takes == 2 and 0 < one.illegal_mean <= one.illegal_max <= 1
        assert 0 <= one.end_off_slot_mean <= one.end_off_slot_max <= one.illegal_max
        assert one.log_likelihood < 0 < one.tokens_per_character
    monkeypatch.setattr(check, "measure", lambda chosen: measured)
    printed = CliRunner().invoke(commands.command, ["check", "--json"])
    assert json.loads(printed.stdout)[1]["bos"] == "single"
    table = CliRunner().invoke(commands.command, ["check"]).stdout.splitlines()
    assert table[0].split()[:2] == ["BOS", "ENDED"] and len(table) == 3


def test_pull_of_a_folder_tells_what_is_there(configured: Path) -> None:
    result = CliRunner().invoke(commands.command, ["pull"])
    assert result.exit_code == 0
    assert "2 layers of 48, 6 heads over 2 of 16" in result.stdout
    refused = CliRunner().invoke(commands.command, ["pull", "--model", str(configured / "snac")])
    assert "in config.json, num_attention_heads should be" in str(refused.exception)


class Hub(BaseHTTPRequestHandler):
    """As much of huggingface.co as a download of one model needs."""

    root: Path
    asked: list[str]
    newest: str

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        revision = path.removeprefix("/api/models/voice/mill/revision/")
        if revision in ("main", COMMIT, LATER):
            names = [file.name for file in self.root.iterdir()] + [
                "consolidated.pth",
                "tokenizer/tokenizer.json",
            ]
            siblings = [{"rfilename": name} for name in names]
            sha = self.newest if revision == "main" else revision
            self._send(json.dumps({"id": "voice/mill", "sha": sha, "siblings": siblings}).encode())
        elif path.startswith("/api/models/voice/mill/tree/"):
            entries = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name}
                for file in self.root.iterdir()
            ]
            self._send(
                json.dumps(
                    [*entries, {"type": "file", "path": "consolidated.pth", "size": 9, "oid": "x"}]
                ).encode()
            )
        elif path.startswith("/voice/mill/resolve/"):
            commit, name = path.split("/")[-2:]
            self.asked.append(name)
            self._send((self.root / name).read_bytes(), {"ETag": f'"{name}"', "X-Repo-Commit": commit})
        elif "/revision/" in path and "/voice/mill/" in path:
            self._send(b"{}", {"X-Error-Code": "RevisionNotFound"}, 404)
        else:
            self._send(b"{}", {"X-Error-Code": "RepoNotFound"}, 404)

    def _send(self, body: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def hub(folder: Path) -> Iterator[str]:
    Hub.root, Hub.asked, Hub.newest = folder / "model", [], COMMIT
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def python(endpoint: str, home: Path, code: str, *arguments: str) -> str:
    """What code prints in a process of its own, because huggingface_hub reads its settings when imported."""
    environment = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PATH": "", "PYTHONPATH": str(ROOT)}
    environment |= {"VOICEMILL_MAYA1_CACHE": str(home), "VOICEMILL_MAYA1_MODEL": "voice/mill"}
    environment |= {"VOICEMILL_MAYA1_SNAC": str(Hub.root.parent / "snac")}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, text=True, capture_output=True, check=True).stdout.strip()


def fetched(endpoint: str, home: Path, name: str, revision: str | None = None) -> str:
    code = (
        "import sys, pathlib\nfrom workers.engines.maya1 import hub\n"
        "name, revision, home = sys.argv[1:]\n"
        "try: print(hub.directory(name, revision or None, hub.MODEL_FILES, pathlib.Path(home)))\n"
        "except hub.CheckpointError as error: print(error)"
    )
    return python(endpoint, home, code, name, revision or "", str(home))


def pull(endpoint: str, home: Path, *arguments: str) -> str:
    code = "import sys\nfrom cli import model\nmodel.command(['pull', *sys.argv[1:]], standalone_mode=False)"
    return python(endpoint, home, code, *arguments)


def test_a_model_is_fetched_by_name(hub: str, tmp_path: Path) -> None:
    found = Path(fetched(hub, tmp_path, "voice/mill"))
    assert found.name == COMMIT
    assert sorted(set(Hub.asked)) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert checkpoint.open_directory(found).shape.layers == 2
    assert fetched("http://127.0.0.1:9", tmp_path, "voice/mill", COMMIT) == str(found)  # there already


def test_a_machine_keeps_to_the_revision_that_it_fetched(hub: str, tmp_path: Path) -> None:
    """The model changes on the hub; here it does so when `pull` is told to, and where a revision is named."""
    assert fetched(hub, tmp_path, "voice/mill").endswith(COMMIT)
    Hub.newest = LATER
    assert fetched(hub, tmp_path, "voice/mill").endswith(COMMIT)
    assert fetched(hub, tmp_path, "voice/mill", LATER).endswith(LATER)
    assert f" {COMMIT} " in pull(hub, tmp_path)
    assert f" {LATER} " in pull(hub, tmp_path, "--revision", "main")
    assert fetched(hub, tmp_path, "voice/mill").endswith(LATER)
    assert json.loads((tmp_path / "revisions.json").read_text()) == {"voice/mill": LATER}
    (tmp_path / "revisions.json").write_text("{")
    assert "delete it" in fetched(hub, tmp_path, "voice/mill")


def test_what_cannot_be_fetched_is_told(hub: str, tmp_path: Path) -> None:
    assert "it has no revision 'v9'" in fetched(hub, tmp_path, "voice/mill", "v9")
    assert "neither such a folder nor such a model" in fetched(hub, tmp_path, "voice/less")
    assert "the hub cannot be reached" in fetched("http://127.0.0.1:9", tmp_path, "voice/other")


def test_where_the_engine_can_run(configured: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert SPEC.unavailable() is None
    monkeypatch.delenv("VOICEMILL_MAYA1_MODEL")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "`voicemill model pull`" in str(SPEC.unavailable())
    monkeypatch.delenv("VOICEMILL_MAYA1_DEVICE")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "there is no NVIDIA GPU here" in str(SPEC.unavailable())
