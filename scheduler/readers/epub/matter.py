"""Which documents of a book are not its text: covers, title pages, imprints, tables of contents, indexes.

Publishers say so by `epub:type`, landmarks and guides, and are believed, within reason. Where nobody says anything,
only short documents that are clearly one of these are left out: better a spoken imprint than a lost chapter.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from scheduler.readers.epub import content, package, semantics

COVER_CHARACTERS = 300
TITLE_PAGE_CHARACTERS = 1000
SHORT_CHARACTERS = 5000  # an imprint is shorter, a chapter seldom
BOOK_SHARE = 0.25  # a document with more of the book's text than this is never left out
_LINKS_SHARE = 0.5  # of the characters of a table of contents, at least

_CONTENTS = re.compile(
    r"(?:table of )?contents|toc|inhalt(?:sverzeichnis)?|sommaire|table des matières|índice|indice|sommario|inhoud"
    r"|оглавление|содержание|目录|目次",
    re.IGNORECASE,
)
_COVER = re.compile(r"(?:front |book )?cover(?: ?(?:page|image))?", re.IGNORECASE)
_TITLE_PAGE = re.compile(r"(?:half )?title ?(?:page)?|title ?page", re.IGNORECASE)
_IMPRINT = re.compile(r"copyrights?(?: (?:page|notice|information))?|imprint|impressum|colophon", re.IGNORECASE)
_COPYRIGHT_SIGN = re.compile(r"©|\bcopyright\b", re.IGNORECASE)
_COPYRIGHT_WORDS = re.compile(r"\bISBN\b|all rights reserved", re.IGNORECASE)


def silent(
    item: package.Item, said: content.Content, references: Sequence[package.Reference], title: str, share: float
) -> str | None:
    """Why a document is left out, None if it is read. `title` as in the table of contents, `share` of all text."""
    if "nav" in item.properties:
        return "table of contents"
    stated = {reference.kind for reference in references}
    if share > BOOK_SHARE or semantics.READ & (stated | said.kinds):
        return None
    mostly_links = said.link_characters > _LINKS_SHARE * said.characters
    if (kinds := semantics.SILENT & stated) and (said.characters < SHORT_CHARACTERS or mostly_links):
        return min(kinds)
    names = [title, said.heading, re.sub(r"[\W_\d]+", " ", PurePosixPath(item.name).stem).strip()]
    return _unstated(said, names, mostly_links)


def _unstated(said: content.Content, names: Collection[str], mostly_links: bool) -> str | None:
    def named(expression: re.Pattern[str]) -> bool:
        return any(expression.fullmatch(name.strip(" .:")) for name in names)

    if named(_CONTENTS) and mostly_links:
        return "toc"
    if said.characters < COVER_CHARACTERS and named(_COVER):
        return "cover"
    if said.characters < TITLE_PAGE_CHARACTERS and named(_TITLE_PAGE):
        return "titlepage"
    if said.characters < SHORT_CHARACTERS and (named(_IMPRINT) or _is_imprint(said)):
        return "copyright-page"
    return None


def _is_imprint(said: content.Content) -> bool:
    text = " ".join(passage.text for passage in said.passages)
    return bool(_COPYRIGHT_SIGN.search(text) and _COPYRIGHT_WORDS.search(text))
