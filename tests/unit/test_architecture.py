"""The drawings in docs/architecture.md are the state machines of the code."""

import re
from pathlib import Path

import pytest

from storage import states

DOC = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("heading", "steps", "kind"),
    [
        ("Corpus", states.CORPUS_STEPS, states.Corpus),
        ("Job", states.JOB_STEPS, states.Job),
        ("Segment", states.SEGMENT_STEPS, states.Segment),
        ("Batch", states.BATCH_STEPS, states.Batch),
    ],
)
def test_drawn_as_coded(heading, steps, kind):
    drawing = re.search(rf"### {heading}\n\n```mermaid\nstateDiagram-v2\n(.*?)```", DOC, re.DOTALL).group(1)
    drawn = set(re.findall(r"(\w+) --> (\w+)", drawing))
    coded = {(source.value, target.value) for source, targets in steps.items() for target in targets}
    assert drawn == coded
    assert set(steps) == set(kind)


def test_every_file_that_is_named_exists():
    root = Path(__file__).parents[2]
    for name in re.findall(r"`((?:scheduler|workers|storage|tests)/[\w/]+\.py)`", DOC):
        assert (root / name).is_file(), name
