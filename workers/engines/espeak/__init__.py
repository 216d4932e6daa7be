"""Real speech on any CPU, from wheels alone: previews, demonstrations, and tests of the whole system."""

from workers.engines.espeak.spec import EspeakSpec

SPEC = EspeakSpec()
