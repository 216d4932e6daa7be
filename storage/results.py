"""What a corpus came to, in the form of `results.jsonl` and `errors.jsonl`: one line a job."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from storage import corpora, jobs, keys, segments, states

ENDED_BADLY = (states.Job.FAILED, states.Job.CANCELLED, states.Job.NEEDS_REVIEW)

Rows = Sequence[sa.Row[Any]]


def ended(connection: sa.Connection, corpus: sa.Row[Any]) -> Rows:
    """The jobs that have ended, in the corpus' order, each read once: what is told of the same rows agrees."""
    return list(jobs.each(connection, corpus.id, (*states.AUDIBLE_JOBS, *ENDED_BADLY)))


def successes(corpus: sa.Row[Any], rows: Rows) -> Iterator[dict[str, Any]]:
    """A record for each of these jobs that has its audio."""
    for row in rows:
        if row.state not in states.AUDIBLE_JOBS:
            continue
        options = row.options
        yield {
            "id": row.custom_id,
            "corpus": corpus.name,
            "state": row.state,
            "audio": audio_name(row),
            "captions": [caption_name(row, kind) for kind in options["captions"]],
            "seconds": round(row.samples / row.sample_rate, 3),
            "samples": row.samples,
            "sample_rate": row.sample_rate,
            "bytes": row.audio_bytes,
            "sha256": row.audio_sha256,
            "key": row.audio_key,
            "title": options.get("title"),
            "engine": corpus.engine,
            "voice": options["voice"],
            "format": audio_name(row).rpartition(".")[2],
            "seed": options["seed"],
            "segments": row.segments_total,
            "characters": row.characters,
            "deliverables": [_told(row, made) for made in row.deliverables or ()],
            **({"needs_review": row.detail} if row.state == states.Job.NEEDS_REVIEW else {}),
        }


def failures(connection: sa.Connection, corpus: sa.Row[Any], rows: Rows) -> Iterator[dict[str, Any]]:
    """A record for each of these jobs that failed, was cancelled or needs a listen, with the segments that are to blame."""
    blamed: dict[str, list[dict[str, Any]]] = {}
    for row in segments.failed(connection, corpus.id):
        told = {"segment": row.position, "text": row.text, "reason": row.reason, "detail": row.detail}
        blamed.setdefault(row.custom_id, []).append(told)
    for row in rows:
        if row.state not in ENDED_BADLY:
            continue
        yield {
            "id": row.custom_id,
            "corpus": corpus.name,
            "state": row.state,
            "reason": row.reason or row.state,
            "detail": row.detail,
            "segments": blamed.get(row.custom_id, []),
        }


def audio_name(job: sa.Row[Any]) -> str:
    """The file name of a job's audio: the producer's own name for it, and the format's suffix."""
    return f"{job.custom_id}.{job.audio_key.rpartition('.')[2]}"


def objects(job: sa.Row[Any]) -> dict[str, str]:
    """A finished job's objects in the store, by the file name that each gets."""
    found = {audio_name(job): str(job.audio_key)}
    for made in job.deliverables or ():
        found[file_name(job, made)] = made["key"]
    for kind in job.options["captions"]:
        found[caption_name(job, kind)] = keys.captions(job.assembly_key, kind)
    return found


def digests(job: sa.Row[Any]) -> dict[str, str]:
    """The sha256 of a finished job's audio files, by their keys in the store."""
    return {str(job.audio_key): str(job.audio_sha256)} | {
        made["key"]: made["sha256"] for made in job.deliverables or ()
    }


def sizes(job: sa.Row[Any]) -> dict[str, int]:
    """The bytes of a finished job's audio files, by their keys in the store."""
    return {str(job.audio_key): int(job.audio_bytes)} | {
        made["key"]: made["bytes"] for made in job.deliverables or ()
    }


def file_name(job: sa.Row[Any], made: Mapping[str, Any]) -> str:
    """Where one of a job's files goes, below the output folder."""
    return f"{made['folder']}/" * bool(made["folder"]) + f"{job.custom_id}.{made['key'].rpartition('.')[2]}"


def caption_name(job: sa.Row[Any], kind: str) -> str:
    """The file name of a job's captions; the times of segments are `.timing.json`."""
    return f"{job.custom_id}.{'timing.json' if kind == 'json' else kind}"


def _told(job: sa.Row[Any], made: Mapping[str, Any]) -> dict[str, Any]:
    """One file, as `results.jsonl` tells of it."""
    return {"audio": file_name(job, made), **{name: value for name, value in made.items() if name != "folder"}}


def corpus_summary(connection: sa.Connection, corpus: sa.Row[Any]) -> dict[str, Any]:
    """A corpus in numbers, as `status --json` prints it."""
    progress = jobs.progress(connection, corpus.id)
    return {
        "name": corpus.name,
        "state": corpus.state,
        "engine": corpus.engine,
        "priority": states.Priority(corpus.priority).name.lower(),
        "source": corpus.source,
        "created_at": corpus.created_at,
        "finished_at": corpus.finished_at,
        "jobs": {"total": sum(progress.jobs.values()), **progress.jobs},
        "segments": {
            "total": progress.segments_total,
            "done": progress.segments_done,
            "failed": progress.segments_failed,
        },
        "characters": progress.characters,
        "tokens": {"estimated": progress.tokens_total, "done": progress.tokens_done},
        "audio_seconds": round(progress.audio_seconds, 3),
        "audio_bytes": progress.audio_bytes,
    }


def find(connection: sa.Connection, name: str | None) -> sa.Row[Any]:
    """The corpus of that name, or the newest where none is named. Raises UnknownCorpusError."""
    if name is not None:
        return corpora.find(connection, name)
    newest = corpora.newest(connection)
    if newest is None:
        raise corpora.UnknownCorpusError(name="(newest)")
    return newest
