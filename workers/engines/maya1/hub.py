"""Where a model's files are: a folder given as such, or a snapshot that huggingface_hub keeps and fetches.

Where the settings name no revision, the newest is fetched once, and its commit written down beside TensorRT's engines: a
model that changes on the hub changes nothing here until `voicemill model pull --revision main` says so.
"""

import json
import logging
import re
from pathlib import Path

from storage import errors
from workers.engines.maya1.settings import Maya1Settings

logger = logging.getLogger(__name__)

MODEL_FILES = ("config.json", "tokenizer.json", "model*.safetensors", "model.safetensors.index.json")
CODEC_FILES = ("config.json", "pytorch_model.bin")
KEPT = "revisions.json"  # name of a model to the commit that this machine keeps to
COMMIT = re.compile(r"[0-9a-f]{40}")


class CheckpointError(errors.InputError):
    """The model {model} cannot be used: {reason}."""


def model(settings: Maya1Settings, fetch: bool = True) -> Path:
    """The language model's folder. Raises CheckpointError."""
    cache = settings.maya1_cache.expanduser()
    return directory(settings.maya1_model, settings.maya1_revision, MODEL_FILES, cache, fetch)


def codec(settings: Maya1Settings, fetch: bool = True) -> Path:
    """The codec's folder. Raises CheckpointError."""
    cache = settings.maya1_cache.expanduser()
    return directory(settings.maya1_snac, settings.maya1_snac_revision, CODEC_FILES, cache, fetch)


def directory(name: str, revision: str | None, files: tuple[str, ...], cache: Path, fetch: bool = True) -> Path:
    """The folder with the files of a model, fetched with a progress bar if need be. Raises CheckpointError."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if name.count("/") != 1 or name.startswith((".", "~", "/")):
        raise CheckpointError(model=name, reason="there is no such folder")
    kept = _kept(cache).get(name)
    found = _snapshot(name, revision or kept, files, fetch)
    if fetch and revision is None and kept is None:
        keep(name, found, cache)
    return found


def commit(path: Path) -> str | None:
    """The commit that a folder is a snapshot of, if it is one."""
    return path.name if COMMIT.fullmatch(path.name) else None


def keep(name: str, path: Path, cache: Path) -> None:
    """Has this machine keep to a snapshot from now on, where the settings name no revision."""
    file = cache / KEPT
    try:
        cache.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(_kept(cache) | {name: path.name}, indent=1))
        partial.replace(file)
    except OSError as error:
        logger.warning("%s cannot be written (%s): set VOICEMILL_MAYA1_REVISION to keep to one.", file, error)


def _kept(cache: Path) -> dict[str, str]:
    try:
        return dict(json.loads((cache / KEPT).read_text()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(model=cache / KEPT, reason=f"it cannot be read ({error}); delete it") from error


def _snapshot(name: str, revision: str | None, files: tuple[str, ...], fetch: bool) -> Path:
    import huggingface_hub

    try:
        found = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=list(files), local_files_only=not fetch
        )
        return Path(found)
    except Exception as error:  # an HTTP client's whole family of errors, and the hub's own
        raise CheckpointError(model=name, reason=_reason(error, revision, fetch)) from error


def _reason(error: Exception, revision: str | None, fetch: bool) -> str:
    from huggingface_hub import errors as hub_errors

    match error:
        case hub_errors.RevisionNotFoundError():
            return f"it has no revision {revision!r}"
        case hub_errors.GatedRepoError():
            return "its owners ask you to accept their terms on its page, then `hf auth login`"
        case hub_errors.RepositoryNotFoundError():
            return "there is neither such a folder nor such a model"
        case hub_errors.LocalEntryNotFoundError() | hub_errors.OfflineModeIsEnabled():
            return "it is not on this machine" + (" and the hub cannot be reached" if fetch else "")
    return " ".join(str(error).split())[:300]
