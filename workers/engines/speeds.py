"""How fast engines usually are, for estimates on machines that have not rendered anything yet.

In tokens a second of one worker. espeak: measured, two cores; maya1: the aim for one H200 in bf16 (docs/performance.md
says what was measured).
"""

TYPICAL = {"espeak": 60_000.0, "maya1": 30_000.0}
