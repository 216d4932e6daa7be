"""Regular expressions that users write: which are fit to be run over texts that nobody has seen."""

import re

MAX_CHARACTERS = 300
_BACK_REFERENCE = re.compile(r"\\[1-9]|\(\?P[=<]|\(\?\(")
_UNBOUNDED = re.compile(r"[*+]|\{\d*,\}")
_ESCAPE_OR_CLASS = re.compile(r"(?s)\\.|\[\^?\]?(?:\\.|[^\]\\])*\]")


def is_pattern(entry: str) -> bool:
    """Whether an entry is written as `/a regular expression/`."""
    return len(entry) > 2 and entry.startswith("/") and entry.endswith("/")


def fault(pattern: str) -> str | None:
    """Why this regular expression is refused, None if it is not."""
    if len(pattern) > MAX_CHARACTERS:
        return f"it has more than {MAX_CHARACTERS} characters"
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"it is no regular expression ({error})"
    if compiled.match(""):
        return "it matches an empty text"
    plain = _ESCAPE_OR_CLASS.sub("x", pattern)
    if _BACK_REFERENCE.search(pattern) or "(?P" in plain:
        return "it has a back reference or a named group; use plain groups"
    if re.search(r"\(\?[a-zA-Z]+\)", plain):
        return "it sets a flag for the whole lexicon; write (?i:...) around the part that is meant"
    if _repeats_a_choice(plain):
        return "it repeats a group that itself repeats or chooses, which can take for ever; write it without"
    return None


def _repeats_a_choice(plain: str) -> bool:
    """Whether a group with `*`, `+` or `|` inside is itself repeated without bound: `(a+)+`, `(a|ab)*`."""
    open_groups = [False]  # for each group that is open: whether it has a repeat or a choice inside
    for position, character in enumerate(plain):
        if character == "(":
            open_groups.append(False)
        elif character == "|" or _UNBOUNDED.match(plain, position):
            open_groups[-1] = True
        elif character == ")" and len(open_groups) > 1:
            inner = open_groups.pop()
            if inner and _UNBOUNDED.match(plain, position + 1):
                return True
            open_groups[-1] = open_groups[-1] or inner
    return False
