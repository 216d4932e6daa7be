"""Markdown: headings begin chapters; emphasis and links become their text; code and HTML are left out.

With a single heading of the first level, that is the book's title and those of the second level begin its chapters.
A tag that is no HTML (`<break time="1s"/>`, `<laugh>`) is text.
"""

import re
from collections.abc import Iterator, Sequence

from lxml.html import defs
from markdown_it import MarkdownIt
from markdown_it.token import Token

from scheduler.document import Block, Document, Problem
from scheduler.readers import chapters, registry, source

MAX_CHARACTERS = 16 << 20  # it is parsed whole; a long novel has a million
SCENE_BREAK = "* * *"  # nothing to speak, but a paragraph of its own: the silence grows
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_MATTER_LINE = re.compile(r"""(?m)^(title|author|language|lang)[ \t]*:[ \t]*["']?(.+?)["']?[ \t]*$""")
_FOOTNOTE = re.compile(r"\[\^[^\]\s]+\](:?)")
_OWN_TAG = re.compile(r"<(?:break\b[^>]*|[a-z]+(?:_[a-z]+)*)/?>", re.IGNORECASE)


_HTML_NAMES = defs.tags | {"data", "main", "picture", "search", "slot", "template"}


@registry.reader(".md")
def read(origin: source.Source) -> Iterator[Document | Problem]:
    """One document, or one for each chapter."""
    try:
        with origin.open() as stream:
            text = _whole(source.text(stream, origin.encoding))
    except source.ReadError as error:
        yield Problem(origin.name, str(error))
        return
    front = _FRONT_MATTER.match(text)
    about = dict(_FRONT_MATTER_LINE.findall(front[1])) if front else {}
    blocks, title = _blocks(text[front.end() :] if front else text)
    if not blocks:
        yield Problem(origin.name, "has no text")
        return
    book = Document(
        origin.custom_id,
        (),
        origin.name,
        title=about.get("title") or title,
        author=about.get("author"),
        language=about.get("language") or about.get("lang"),
    )
    yield from chapters.documents(book, blocks, origin.split)


def _whole(parts: Iterator[str]) -> str:
    held: list[str] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size > MAX_CHARACTERS:
            raise source.ReadError(reason=f"has more than {MAX_CHARACTERS >> 20} million characters; part it")
    return "".join(held)


def _blocks(text: str) -> tuple[list[Block], str | None]:
    """The blocks of a Markdown text, and the title of the whole if it states one."""
    tokens = _PARSER.parse(text)
    levels = [int(token.tag[1]) for token in tokens if token.type == "heading_open"]
    has_title = levels.count(1) == 1
    chapter_level = 2 if has_title else min(levels, default=0)
    title: str | None = None
    blocks: list[Block] = []
    for spoken, level in _spoken(tokens):
        if level == 1 and has_title:
            title = spoken
        blocks.append(Block(spoken, spoken if level and level == chapter_level else None))
    return blocks, title


def _spoken(tokens: Sequence[Token]) -> Iterator[tuple[str, int]]:
    """The text of each paragraph, and the level of each that is a heading (0: it is none)."""
    level = 0
    row: list[str] | None = None
    for token in tokens:
        match token.type:
            case "heading_open":
                level = int(token.tag[1])
            case "heading_close":
                level = 0
            case "tr_open":
                row = []
            case "tr_close":
                if row:
                    yield ", ".join(row), 0
                row = None
            case "hr":
                yield SCENE_BREAK, 0
            case "inline" | "html_block":
                text = _text(token)
                if row is not None and text:
                    row.append(text)
                elif text:
                    yield text, level


def _text(token: Token) -> str:
    if token.type == "html_block":
        tag = _OWN_TAG.match(token.content.lstrip())
        if tag is None or _is_html(tag[0]):
            return ""
        return _inline(_PARSER.parseInline(token.content)[0].children or ())
    return _inline(token.children or ())


def _inline(children: Sequence[Token]) -> str:
    text = "".join(map(_piece, children)).strip()
    footnote = _FOOTNOTE.match(text)
    if footnote and footnote[1]:
        return ""  # the note itself; its marks in the text go too
    return _FOOTNOTE.sub(r"\1", text)


def _piece(token: Token) -> str:
    match token.type:
        case "text" | "code_inline" | "text_special":
            return token.content
        case "softbreak" | "hardbreak":
            return "\n"
        case "html_inline":
            if _OWN_TAG.fullmatch(token.content) and not _is_html(token.content):
                return token.content
            return "\n" if token.content.lower().startswith("<br") else ""
        case _:
            return ""


def _is_html(tag: str) -> bool:
    name = re.match(r"</?([A-Za-z][A-Za-z0-9]*)", tag)
    return name is not None and name[1].lower() in _HTML_NAMES


_PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
