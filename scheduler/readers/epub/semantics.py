"""What the parts of a book are, in the words of EPUB's structural vocabulary, and which of them are read aloud."""

from typing import Any

_TYPE_ATTRIBUTES = ("{http://www.idpf.org/2007/ops}type", "epub:type")  # as XML and as HTML parsers name it
_ARIA_PREFIX = "doc-"  # roles of DPUB-ARIA are the same words with a prefix

SILENT = frozenset(  # parts that no audiobook reads out
    (
        "annotation", "bibliography", "biblioentry", "colophon", "contributors", "copyright-page", "cover",
        "cover-page", "endnote", "endnotes", "errata", "footnote", "footnotes", "glossary", "halftitlepage",
        "halftitle", "imprimatur", "imprint", "index", "landmarks", "loa", "loi", "lot", "lov", "note", "notes",
        "noteref", "other-credits", "pagebreak", "page-list", "rearnote", "rearnotes", "revision-history",
        "seriespage", "title-page", "titlepage", "toc", "toc-brief",
    )
)  # fmt: skip
READ = frozenset(  # parts that are read even in front or back matter
    (
        "acknowledgments", "acknowledgements", "afterword", "appendix", "bodymatter", "chapter", "conclusion",
        "dedication", "division", "epigraph", "epilogue", "foreword", "introduction", "part", "preamble", "preface",
        "prologue", "subchapter", "text", "volume",
    )
)  # fmt: skip
MATTER = frozenset(("frontmatter", "backmatter"))  # silent, unless the part is one of those above


def kinds(element: Any) -> frozenset[str]:
    """What an element says that it is, by `epub:type` or by role."""
    stated = next((element.get(name) for name in _TYPE_ATTRIBUTES if element.get(name)), "")
    roles = (
        role.removeprefix(_ARIA_PREFIX)
        for role in element.get("role", "").split()
        if role.startswith(_ARIA_PREFIX)
    )
    return frozenset(stated.lower().split()) | frozenset(roles)
