"""`voicemill model`: the weights of the engine maya1, and what can be made and measured with them."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cli import show
from storage import settings
from workers.engines.engine import EngineUnavailableError
from workers.engines.maya1 import missing_libraries
from workers.engines.maya1.settings import Maya1Settings

HEADINGS = ("BOS", "ENDED", "TOKENS/CHAR", "ILLEGAL", "MOST", "END OFF SLOT", "MOST", "LOG-LIKELIHOOD")


def _model_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--revision", metavar="COMMIT", help="The model's revision on the hub."),
        click.option(
            "--model", metavar="NAME", help="A folder or a Hugging Face name. Default: the settings'."
        ),
    ):
        function = option(function)
    return function


@click.group("model")
def command() -> None:
    """Fetch and examine the model of the engine maya1.

    \b
    Example:
      voicemill model pull
    """
    missing = missing_libraries()
    if missing:
        raise EngineUnavailableError(engine="maya1", reason=missing)


@command.command()
@_model_options
def pull(model: str | None, revision: str | None) -> None:
    """Fetch the model and its codec, and check that they are whole.

    This machine keeps to the revision that it fetched, until another is asked for: `--revision main` is the newest.

    \b
    Example:
      voicemill model pull
    """
    chosen = _settings(model, revision)
    from workers.engines.maya1 import hub, loading

    opened, codec = loading.open_checkpoint(chosen), hub.codec(chosen)
    show.table(
        ("PART", "REVISION", "WHERE", "WHAT"),
        [
            ("model", hub.commit(opened.path) or "", opened.path, opened.facts()),
            ("codec", hub.commit(codec) or "", codec, "SNAC"),
        ],
    )
    if commit := hub.commit(opened.path):
        hub.keep(chosen.maya1_model, opened.path, chosen.maya1_cache.expanduser())
        show.note(f"This machine keeps to that revision; for others: VOICEMILL_MAYA1_REVISION={commit}")


@command.command()
@_model_options
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def check(model: str | None, revision: str | None, as_json: bool) -> None:
    """Measure what nobody has published: probability on tokens that no frame allows, and which prompt suits better.

    Speaks a few sentences with each form of the prompt's begin-of-text tokens. ILLEGAL is the probability, per token,
    that the frame's grammar cuts off; END OFF SLOT that of the end of speech inside a frame; MOST the largest seen.

    \b
    Example:
      voicemill model check --json
    """
    chosen = _settings(model, revision)
    from workers.engines.maya1 import check as checking

    measures = checking.measure(chosen)
    if as_json:
        show.print_json([asdict(measure) for measure in measures])
        return
    show.table(HEADINGS, [_row(asdict(measure)) for measure in measures], right=range(1, len(HEADINGS)))


@command.command("build-vocoder")
@click.option(
    "--snac",
    metavar="NAME",
    help="The codec: a folder or a Hugging Face name. Default: the settings'.",
)
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="Folder for the engine.")
def build_vocoder(snac: str | None, cache: Path | None) -> None:
    """Build the TensorRT engine of the vocoder for this machine; one that is there already is kept.

    \b
    Example:
      voicemill model build-vocoder
    """
    chosen = settings.load(Maya1Settings, **_given(maya1_snac=snac, maya1_cache=cache))
    import torch

    from workers.engines.maya1 import hub, loading, vocoder

    device = loading.find_device(chosen.maya1_device if torch.cuda.is_available() else "cpu")
    engine = vocoder.build(
        hub.codec(chosen), chosen.maya1_cache.expanduser(), device, noise=chosen.maya1_vocoder_noise
    )
    show.table(("VOCODER", "SIZE"), [(engine, show.size(engine.stat().st_size))], right=[1])
    show.note("To use it: VOICEMILL_MAYA1_VOCODER=tensorrt")


def _settings(model: str | None, revision: str | None) -> Maya1Settings:
    return settings.load(Maya1Settings, **_given(maya1_model=model, maya1_revision=revision))


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _row(measure: dict[str, Any]) -> list[str]:
    masses = [
        measure[name] for name in ("illegal_mean", "illegal_max", "end_off_slot_mean", "end_off_slot_max")
    ]
    return [
        measure["bos"],
        f"{measure['ended']} of {measure['takes']}",
        f"{measure['tokens_per_character']:.2f}",
        *(f"{mass:.2e}" for mass in masses),
        f"{measure['log_likelihood']:.3f}",
    ]
