"""What a run did and found, for people."""

from collections import Counter
from collections.abc import Sequence

from tests.faults.ledger import Account
from tests.faults.place import CHECKPOINT_SECONDS, Place


def written(at: Place, account: Account, done: Sequence[str], seconds: float) -> str:
    """The whole report."""
    segments = sum(text.segments for text in at.texts)
    jobs = sum(len(text.jobs) for text in at.texts)
    lines = [
        "",
        f"{len(done)} faults in {seconds / 60:.1f} minutes over {segments} segments of {jobs} jobs:",
        *_table(Counter(done)),
        f"S3 requests that failed: {at.proxy.failed.total()}",
        f"processes started: {sum(len(slot.ended) + 1 for slot in at.slots)}",
        *_table(at.counts),
        "",
        f"The engines were called {account.calls} times, {account.cut} of them were cut short.",
        f"Takes rendered: {account.takes}, of which again: {account.again.total()}"
        f" ({account.again.total() / max(1, account.keys):.1%})",
        f"Plain Celery (acks_late, the whole batch again) would have rendered again: {account.celery.total()}",
        f"  {'cause':58}{'Voicemill':>10}{'Celery':>10}",
        *(
            f"  {cause:58}{account.again[cause]:10}{account.celery[cause]:10}"
            for cause in sorted(account.again.keys() | account.celery.keys())
        ),
    ]
    if account.tokens:
        share = account.tokens_again.total() / account.tokens
        lines += [
            f"Tokens: {account.tokens}, rendered again: {account.tokens_again.total()} ({share:.1%})."
            f" A checkpoint every {CHECKPOINT_SECONDS:g} s.",
            f"  {'cause':58}{'Voicemill':>10}{'worst':>8}{'Celery':>10}",
            *(
                f"  {cause:58}{account.tokens_again[cause]:10}{account.worst.get(cause, 0.0):6.1f} s"
                f"{account.celery_tokens[cause]:10}"
                for cause in sorted(account.tokens_again.keys() | account.celery_tokens.keys())
            ),
            "  worst: seconds of work on one sequence that were lost at once",
        ]
    return "\n".join([*lines, "", findings(at)])


def findings(at: Place) -> str:
    """What should not be."""
    if not at.findings:
        return "Nothing was lost, doubled or left over."
    return "\n".join([f"{len(at.findings)} findings:", *(f"  - {finding}" for finding in at.findings)])


def _table(counts: Counter[str]) -> list[str]:
    return [f"  {count:5}  {name}" for name, count in sorted(counts.items())]
