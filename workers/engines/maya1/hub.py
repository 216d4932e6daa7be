"""Where a model's files are: a folder given as such, or a snapshot that huggingface_hub keeps and fetches."""

from pathlib import Path

from storage import errors

MODEL_FILES = ("config.json", "tokenizer.json", "model*.safetensors", "model.safetensors.index.json")
CODEC_FILES = ("config.json", "pytorch_model.bin")


class CheckpointError(errors.InputError):
    """The model {model} cannot be used: {reason}."""


def directory(name: str, revision: str | None, files: tuple[str, ...], fetch: bool = True) -> Path:
    """The folder with the files of a model, fetched with a progress bar if need be. Raises CheckpointError."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if name.count("/") != 1 or name.startswith((".", "~", "/")):
        raise CheckpointError(model=name, reason="there is no such folder")
    return _snapshot(name, revision, files, fetch)


def _snapshot(name: str, revision: str | None, files: tuple[str, ...], fetch: bool) -> Path:
    import huggingface_hub
    from huggingface_hub import errors as hub_errors

    try:
        found = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=list(files), local_files_only=not fetch
        )
        return Path(found)
    except hub_errors.RevisionNotFoundError as error:
        raise CheckpointError(model=name, reason=f"it has no revision {revision!r}") from error
    except hub_errors.GatedRepoError as error:
        raise CheckpointError(
            model=name, reason="its owners ask you to accept their terms on its page, then `hf auth login`"
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        raise CheckpointError(model=name, reason="there is neither such a folder nor such a model") from error
    except (hub_errors.LocalEntryNotFoundError, hub_errors.OfflineModeIsEnabled) as error:
        raise CheckpointError(
            model=name,
            reason="it is not on this machine" + (" and the hub cannot be reached" if fetch else ""),
        ) from error
    except Exception as error:  # an HTTP client's whole family of errors
        raise CheckpointError(model=name, reason=" ".join(str(error).split())[:300]) from error
