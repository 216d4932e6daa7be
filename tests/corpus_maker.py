"""Corpora for tests, made the way producers' corpora are: staged and accepted."""

from collections.abc import Iterable, Mapping
from typing import Any

from scheduler import accept, options
from scheduler.document import Block, Document
from scheduler.lexicon import Lexicon
from scheduler.planner import priority_of
from storage.database import Database
from tests import tones
from workers import voices

VOICE = {"narrator": voices.Voice("narrator", "A voice.", "en-us")}


def accepted(
    database: Database,
    texts: Mapping[str, str | list[str]] | Iterable[str],
    *,
    name: str = "corpus",
    priority: str = "normal",
    audio_format: str = "wav",
    captions: tuple[str, ...] = (),
    loudness: float | None = None,
    preset: str | None = None,
    engine_options: Mapping[str, Any] | None = None,
    spec: Any = None,
    webhook: str | None = None,
) -> accept.Accepted:
    """Accept a corpus of texts by custom_id; a list is a text of several paragraphs."""
    if not isinstance(texts, Mapping):
        texts = {f"job-{number:04}": text for number, text in enumerate(texts)}
    corpus = options.CorpusOptions(
        format=audio_format,
        priority=priority,
        captions=captions,
        loudness=loudness,
        preset=preset,
        engine_options=engine_options or {},
    )
    spec = spec or tones.Spec()
    how = accept.How(spec=spec, resolver=options.Resolver(spec, corpus, VOICE), lexicon=Lexicon())
    documents = (
        Document(custom_id, [Block(text) for text in ([given] if isinstance(given, str) else given)], custom_id)
        for custom_id, given in texts.items()
    )
    with accept.stage(documents, how) as staged:
        return accept.accept(
            database,
            staged,
            name=name,
            source="test",
            corpus_options={},
            priority=priority_of(priority),
            webhook=webhook,
        )
