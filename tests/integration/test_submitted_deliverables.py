"""The files that a producer's message asks for."""

from typing import Any

import pytest
import sqlalchemy as sa

from scheduler import submissions
from storage import errors, objects
from storage.database import Database
from storage.models import Job

BOTH = [{"format": "m4b", "loudness": -16}, {"format": "mp3", "bitrate": "128k"}]


def made(sqlite_url: str, folder_url: str, **message: Any) -> dict[str, list[tuple[str, Any]]]:
    """The files of each job of a message that was taken in: format and loudness."""
    database = Database(sqlite_url)
    body = {"voicemill": 1, "corpus": "corpus", "engine": "espeak", **message}
    submissions.take_in(database, objects.open_store(folder_url), body)
    with database.read() as connection:
        jobs = list(connection.execute(sa.select(Job.c.custom_id, Job.c.options)))
    database.close()
    return {
        job.custom_id: [(each["format"], each["loudness"]) for each in job.options["deliverables"]]
        for job in jobs
    }


def test_a_message_spells_out_the_files_of_jobs_that_name_none(sqlite_url: str, folder_url: str) -> None:
    jobs = [
        {"id": "silent", "text": "One."},
        {"id": "level", "text": "Two.", "loudness": -20},
        {"id": "format", "text": "Three.", "format": "opus"},
        {"id": "own", "text": "Four.", "deliverables": [{"format": "flac"}]},
    ]
    assert made(sqlite_url, folder_url, jobs=jobs, options={"deliverables": BOTH}) == {
        "silent": [("m4b", -16.0), ("mp3", None)],
        "level": [("m4b", -16.0), ("mp3", -20.0)],
        "format": [("opus", None)],
        "own": [("flac", None)],
    }


@pytest.mark.parametrize("wrong", [[], [{"bitrate": "64k"}], [{"format": "tape"}], "mp3"])
def test_files_that_cannot_be_made_reject_the_message(sqlite_url: str, folder_url: str, wrong: Any) -> None:
    with pytest.raises(errors.InputError):
        made(sqlite_url, folder_url, jobs=[{"id": "a", "text": "One."}], options={"deliverables": wrong})
