import io
import time
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from scheduler import readers
from scheduler.document import Block, Document, Problem
from scheduler.readers import epub
from scheduler.readers.epub import archive

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
PROSE = "<p>" + "The lamp was lit, and the street was still. " * 30 + "</p>"  # more than any imprint has


def page(body: str, attributes: str = "", doctype: str = "") -> str:
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n{doctype}<html xmlns="http://www.w3.org/1999/xhtml" '
        f'xmlns:epub="http://www.idpf.org/2007/ops"><head><title>t</title></head><body {attributes}>{body}</body></html>'
    )


def nav(contents: str, landmarks: str = "") -> str:
    marks = f'<nav epub:type="landmarks"><ol>{landmarks}</ol></nav>' if landmarks else ""
    return page(f'<nav epub:type="toc"><h1>Contents</h1><ol>{contents}</ol></nav>{marks}')


def ncx(points: str) -> str:
    return f'<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>{points}</navMap></ncx>'


def point(title: str, src: str, inside: str = "") -> str:
    return f'<navPoint><navLabel><text>{title}</text></navLabel><content src="{src}"/>{inside}</navPoint>'


def opf(names: Iterable[str], *, extra: str = "", metadata: str = "", spine: str = "", guide: str = "") -> str:
    names = list(names)
    items = "".join(
        f'<item id="{name}" href="{name}" media-type="application/xhtml+xml"/>'
        for name in names
        if name != "nav.xhtml"
    )
    refs = spine or "".join(f'<itemref idref="{name}"/>' for name in names if name != "nav.xhtml")
    if "nav.xhtml" in names:
        items += '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
    about = (
        metadata
        or "<dc:title>The Book</dc:title><dc:creator>A. Writer</dc:creator><dc:language>en</dc:language>"
    )
    return (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:opf="http://www.idpf.org/2007/opf" version="3.0">'
        f"<metadata>{about}</metadata><manifest>{items}{extra}</manifest>"
        f'<spine toc="ncx">{refs}</spine>{guide}</package>'
    )


def make(
    folder: Path, pages: Mapping[str, str], *, files: Mapping[str, str | bytes] | None = None, **package: str
) -> Path:
    """An EPUB of these pages; `files` are put beside them as they are, and may replace any of its parts."""
    parts: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OEBPS/book.opf": opf(pages, **package),
        **{f"OEBPS/{name}": text for name, text in pages.items()},
        **(files or {}),
    }
    path = folder / "book.epub"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, content in parts.items():
            if content != "":
                book.writestr(name, content)
    return path


def read(path: Path, **how: object) -> list[Document]:
    found = list(readers.read([str(path)], **how))  # type: ignore[arg-type]
    assert all(isinstance(item, Document) for item in found), found
    return found  # type: ignore[return-value]


def texts(path: Path) -> list[str]:
    (document,) = read(path)
    return [block.text for block in document.blocks]


def starts(path: Path) -> list[tuple[str, str]]:
    """Title and first words of each chapter."""
    (document,) = read(path)
    return [(block.chapter, block.text) for block in document.blocks if block.chapter is not None]


def problem(path: Path) -> str:
    (found,) = readers.read([str(path)])
    assert isinstance(found, Problem), found
    assert found.where == str(path)
    return found.reason


# Words


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<p>One.</p><p>Two.</p>", ["One.", "Two."]),
        ("<p>An <i>ital</i>ic w<small>ORD</small> and H<sub>2</sub>O.</p>", ["An italic wORD and H2O."]),
        ("<p>A&#160;b &nbsp;c &mdash; d &hellip; &amp; &lt;e&gt;</p>", ["A b c — d … & <e>"]),
        ("<p>One<br/>two</p>", ["One two"]),
        ("<h1>Chapter I<br/>The Start</h1>", ["Chapter I, The Start"]),
        ("<h1>Why?<br/>Because</h1>", ["Why? Because"]),
        ("<div>Bare <p>inner</p> text</div>", ["Bare", "inner", "text"]),
        ("<ul><li>one</li><li><p>two</p></li></ul>", ["one", "two"]),
        ("<blockquote><p>Quoted.</p></blockquote>", ["Quoted."]),
        ("<p>a</p><hr/><p>b</p>", ["a", "* * *", "b"]),
        ("<table><tr><th>Name</th><th>Age.</th><th>x</th></tr><tr><td>Orla</td><td><p>30</p></td></tr></table>",
         ["Name, Age. x", "Orla, 30"]),
        ("<table><tr><td><p>A paragraph.</p><p>Another.</p></td></tr></table>", ["A paragraph.", "Another."]),
        ('<p>Said<a epub:type="noteref" href="#n">1</a> so.</p><aside epub:type="footnote" id="n">Note.</aside>',
         ["Said so."]),
        ('<p>Said<sup><a href="#n1">12</a></sup> so<a href="x.xhtml#n2"><sup>*</sup></a>.</p>', ["Said so."]),
        ('<p>The 2<sup>nd</sup> x<sup>2</sup> <a href="#c">link</a>.</p>', ["The 2nd x2 link."]),
        ('<p>Page<span epub:type="pagebreak" title="5">5</span>less<span class="pagenum">6</span>.</p>', ["Pageless."]),
        ('<p role="doc-pagebreak">5</p><section role="doc-endnotes"><p>Note.</p></section><p>Text.</p>', ["Text."]),
        ('<p><img src="x.png" alt="A picture"/>Text <svg><text>no</text></svg>.</p><script>no()</script>', ["Text ."]),
        ('<p hidden="hidden">no</p><p style="DISPLAY: none">no</p><p>yes</p>', ["yes"]),
        ("<p><ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby>字</p>", ["漢字"]),
        ("<p>He said <q>yes</q>.</p>", ["He said “yes”."]),
        ('<section id="pg-header"><p>Licence.</p></section><p>Text.</p>', ["Text."]),
        ('<nav><ol><li>no</li></ol></nav><p>  Much \n\t space </p><p> </p>', ["Much space"]),
        ("<!-- no --><p>T<!-- no -->ext.<?no?></p>", ["Text."]),
    ],
)  # fmt: skip
def test_words(tmp_path: Path, body: str, expected: list[str]) -> None:
    assert texts(make(tmp_path, {"a.xhtml": page(body)})) == expected


@pytest.mark.parametrize(
    "content",
    [
        page("<p>Tag soup <b>unclosed <i>and</b> crossed.</p><a id='x'/><p>More &unknown; &copy;.</p>"),
        page("<p>Tag soup unclosed and crossed.<p>More &unknown; &copy;.").replace("<?xml", "<!-- x --><?xml"),
    ],
)
def test_what_is_no_xml_is_read_as_html(tmp_path: Path, content: str) -> None:
    assert texts(make(tmp_path, {"a.xhtml": content})) == [
        "Tag soup unclosed and crossed.",
        "More &unknown; ©.",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_content_may_have_any_encoding(tmp_path: Path, encoding: str) -> None:
    data = page("<p>Größe</p>").replace('"utf-8"', f'"{encoding}"').encode(encoding)

    assert texts(make(tmp_path, {"a.xhtml": ""}, files={"OEBPS/a.xhtml": data})) == ["Größe"]


def test_a_document_type_is_no_hindrance(tmp_path: Path) -> None:
    doctype = (
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "http://www.w3.org/TR/xhtml11/DTD/xhtml11.dtd">\n'
    )

    assert texts(make(tmp_path, {"a.xhtml": page("<p>A&nbsp;b</p>", doctype=doctype)})) == ["A b"]


# Chapters


def test_stories_with_parts_inside_are_one_chapter_each(tmp_path: Path) -> None:
    story = "<h2>{0}</h2><section id='p1'><h3>I</h3>{1}</section><section id='p2'><h3>II</h3>{1}</section>"
    contents = (
        '<li><a href="t.xhtml">Titlepage</a></li>'
        '<li><a href="a.xhtml">First Story</a>'
        '<ol><li><a href="a.xhtml#p1">I</a></li><li><a href="a.xhtml#p2">II</a></li></ol></li>'
        '<li><a href="b.xhtml">Second Story</a></li>'
    )
    path = make(
        tmp_path,
        {
            "nav.xhtml": nav(contents),
            "t.xhtml": page("<p>T.</p>", 'epub:type="frontmatter"'),
            "a.xhtml": page(story.format("First Story", PROSE), 'epub:type="bodymatter"'),
            "b.xhtml": page(story.format("Second Story", PROSE), 'epub:type="bodymatter"'),
        },
    )

    assert starts(path) == [("First Story", "First Story"), ("Second Story", "Second Story")]
    assert [document.custom_id for document in read(path, split="chapter")] == [
        "book-01-first-story",
        "book-02-second-story",
    ]
    assert [document.custom_id for document in read(path, split="auto")] == ["book"]


def test_parts_hold_chapters_together(tmp_path: Path) -> None:
    contents = (
        '<li><a href="p1.xhtml">Part One</a><ol><li><a href="a.xhtml">I</a></li><li><a href="b.xhtml">II</a></li></ol></li>'
        '<li><span>Part Two</span><ol><li><a href="c.xhtml">I</a></li></ol></li>'
        '<li><a href="d.xhtml">Epilogue</a></li>'
    )
    pages = {"p1.xhtml": page("<h1>PART ONE</h1>")} | {
        f"{name}.xhtml": page(f"<h2>{name}</h2>{PROSE}") for name in "abcd"
    }

    assert starts(make(tmp_path, {"nav.xhtml": nav(contents), **pages})) == [
        ("Part One: I", "PART ONE"),
        ("Part One: II", "b"),
        ("Part Two: I", "c"),
        ("Epilogue", "d"),
    ]


def test_parts_within_one_document_hold_chapters_too(tmp_path: Path) -> None:
    body = "".join(
        f'<h1 id="p{p}">Book {p}</h1><h2 id="c{p}{c}">Chapter {c}</h2>{PROSE}'
        if c == 1
        else f'<h2 id="c{p}{c}">Chapter {c}</h2>{PROSE}'
        for p in (1, 2)
        for c in (1, 2)
    )
    contents = "".join(
        f'<li><a href="a.xhtml#p{p}">Book {p}</a><ol><li><a href="a.xhtml#c{p}1">Chapter 1</a></li>'
        f'<li><a href="a.xhtml#c{p}2">Chapter 2</a></li></ol></li>'
        for p in (1, 2)
    )

    assert starts(make(tmp_path, {"nav.xhtml": nav(contents), "a.xhtml": page(body)})) == [
        ("Book 1: Chapter 1", "Book 1"),
        ("Book 1: Chapter 2", "Chapter 2"),
        ("Book 2: Chapter 1", "Book 2"),
        ("Book 2: Chapter 2", "Chapter 2"),
    ]


def test_the_book_as_the_only_entry_is_looked_into(tmp_path: Path) -> None:
    inside = '<li><a href="a.xhtml#x">One</a></li><li><a href="b.xhtml">Two</a></li>'
    contents = f'<li><a href="a.xhtml">The Book</a><ol>{inside}</ol></li>'
    pages = {
        "a.xhtml": page(f'<h1>The Book</h1><div id="x">{PROSE}</div>'),
        "b.xhtml": page(f"<h2>Two</h2>{PROSE}"),
    }

    path = make(tmp_path, {"nav.xhtml": nav(contents), **pages})

    assert [title for title, _ in starts(path)] == ["One", "Two"]
    assert next(iter(read(path, split="chapter")[0].blocks)) == Block("The Book")


def test_epub_2_has_its_chapters_in_the_ncx(tmp_path: Path) -> None:
    points = point("One &amp; only", "a.html") + point("Two", "b.html#x", point("inner", "b.html#y"))
    path = make(
        tmp_path,
        {
            "a.html": page(f"<p>1</p>{PROSE}"),
            "b.html": page(f'<p>rest of one</p><p><a id="x"/>2</p><p id="y">3</p>{PROSE}'),
        },
        files={"OEBPS/toc.ncx": ncx(points)},
        extra='<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>',
        metadata='<dc:title>B</dc:title><dc:creator opf:role="aut">W</dc:creator><dc:creator opf:role="ill">D</dc:creator>',
    )

    assert starts(path) == [("One & only", "1"), ("Two", "2")]
    assert (read(path)[0].title, read(path)[0].author, read(path)[0].language) == ("B", "W", None)


@pytest.mark.parametrize(
    "contents", ["", '<li><a href="a.xhtml">Start</a></li>', '<li><a href="gone.xhtml">Gone</a></li>']
)
def test_headings_begin_chapters_where_the_contents_say_too_little(tmp_path: Path, contents: str) -> None:
    pages = {
        "a.xhtml": page(f"<h1>The Book</h1><h2>I</h2><h2>Arrival</h2>{PROSE}<h3>small</h3>"),
        "b.xhtml": page(PROSE),
        "c.xhtml": page(f"<h2>II</h2>{PROSE}"),
    }
    path = make(tmp_path, {"nav.xhtml": nav(contents), **pages} if contents else pages)

    assert starts(path) == [("I: Arrival", "I"), ("II", "II")]


def test_the_spine_sets_the_order(tmp_path: Path) -> None:
    pages = {name: page(f"<p>{name}</p>") for name in ("a.xhtml", "b.xhtml", "c.xhtml", "d.xhtml")}
    spine = '<itemref idref="c.xhtml"/><itemref idref="b.xhtml" linear="no"/><itemref idref="a.xhtml"/><itemref idref="x"/>'

    assert texts(make(tmp_path, pages, spine=spine)) == ["c.xhtml", "a.xhtml"]


def test_a_document_with_thousands_of_chapters_is_read_in_linear_time(tmp_path: Path) -> None:
    count = 3000
    body = "".join(
        f'<h2 id="c{number}">Chapter {number}</h2>{"<p>A verse.</p>" * 10}' for number in range(count)
    )
    contents = "".join(f'<li><a href="a.xhtml#c{number}">{number}</a></li>' for number in range(count))
    started = time.monotonic()

    assert len(starts(make(tmp_path, {"nav.xhtml": nav(contents), "a.xhtml": page(body)}))) == count
    assert len(starts(make(tmp_path, {"a.xhtml": page(body)}))) == count
    assert time.monotonic() - started < 15  # about a second; the square of it would be minutes


def test_contents_nested_without_end_count_as_absent(tmp_path: Path) -> None:
    contents = '<li><a href="a.xhtml">x</a><ol>' * 900 + '<li><a href="a.xhtml">x</a></li>' + "</ol></li>" * 900
    pages = {"nav.xhtml": nav(contents), "a.xhtml": page(f"<h1>One</h1>{PROSE}<h1>Two</h1>{PROSE}")}

    assert [title for title, _ in starts(make(tmp_path, pages))] == ["One", "Two"]


# Front and back matter


@pytest.mark.parametrize(
    "attributes",
    [
        'epub:type="frontmatter"', 'epub:type="backmatter"', 'epub:type="titlepage"', 'epub:type="frontmatter toc"',
        'epub:type="copyright-page"', 'epub:type="colophon"', 'epub:type="index"', 'role="doc-toc"', 'epub:type="cover"',
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["body", "section"])
def test_what_says_that_it_is_not_the_text_is_left_out(tmp_path: Path, attributes: str, where: str) -> None:
    content = page(PROSE, attributes) if where == "body" else page(f"<section {attributes}>{PROSE}</section>")
    path = make(tmp_path, {"x.xhtml": content, "a.xhtml": page("<p>Text.</p>")})

    assert texts(path) == ["Text."]
    (skipped,) = epub.load(path).skipped
    assert skipped.name == "OEBPS/x.xhtml"
    assert skipped.characters > 1000


@pytest.mark.parametrize(
    "kind",
    ["dedication", "epigraph", "foreword", "preface", "introduction", "prologue", "afterword", "epilogue"],
)
def test_front_and_back_matter_that_is_read(tmp_path: Path, kind: str) -> None:
    pages = {
        "x.xhtml": page(f'<section epub:type="{kind}"><p>Read.</p></section>', 'epub:type="frontmatter"'),
        "a.xhtml": page("<p>Text.</p>"),
    }

    assert texts(make(tmp_path, pages)) == ["Read.", "Text."]


LINKS = "".join(f'<p><a href="a.xhtml">Chapter {number}</a></p>' for number in range(30))


@pytest.mark.parametrize(
    ("name", "body", "read_out"),
    [
        ("toc.xhtml", LINKS, False),
        ("x.xhtml", f"<h1>Contents</h1>{LINKS}", False),
        ("toc.xhtml", "<p>The table is set, and there is no link in it.</p>", True),
        ("cover.xhtml", "<p>The Book</p>", False),
        ("cover.xhtml", PROSE, True),
        ("titlepage.xhtml", "<p>The Book</p><p>A. Writer</p>", False),
        ("x.xhtml", "<h2>Copyright</h2><p>2024 A. Writer</p>", False),
        ("x.xhtml", "<p>Copyright © 2024 A. Writer. All rights reserved. ISBN 0.</p>", False),
        ("x.xhtml", f"<p>Copyright © 2024 A. Writer. All rights reserved.</p>{PROSE * 5}", True),
        ("index_split_000.xhtml", "<p>A short chapter.</p>", True),
        ("x.xhtml", "<h1>Title</h1><p>" + "A chapter of that name. " * 60 + "</p>", True),
    ],
)
def test_what_says_nothing_is_left_out_only_if_it_is_clear(
    tmp_path: Path, name: str, body: str, read_out: bool
) -> None:
    path = make(tmp_path, {name: page(body), "a.xhtml": page(PROSE * 40)})

    assert (len(epub.load(path).skipped) == 0) == read_out


def test_landmarks_and_guides_are_believed_within_reason(tmp_path: Path) -> None:
    marks = '<li><a epub:type="bibliography" href="b.xhtml"/></li><li><a epub:type="toc" href="whole.xhtml#t">T</a></li>'
    guide = '<guide><reference type="title-page" href="t.xhtml"/><reference type="cover" href="whole.xhtml"/></guide>'
    pages = {
        "nav.xhtml": nav("", marks),
        "t.xhtml": page("<p>The Book</p>"),
        "whole.xhtml": page(PROSE * 10),
        "b.xhtml": page("<p>Books.</p>"),
    }

    found = epub.load(make(tmp_path, pages, guide=guide))

    assert [(skipped.name, skipped.reason) for skipped in found.skipped] == [
        ("OEBPS/t.xhtml", "title-page"),
        ("OEBPS/b.xhtml", "bibliography"),
    ]
    assert len(found.blocks) == 10


def test_a_book_of_nothing_but_front_matter_is_a_problem(tmp_path: Path) -> None:
    assert (
        problem(make(tmp_path, {"a.xhtml": page("<p>x</p>", 'epub:type="frontmatter"')}))
        == "has no text to be read"
    )


# Linked from elsewhere


def test_a_line_of_json_may_name_a_book(tmp_path: Path) -> None:
    make(tmp_path, {"a.xhtml": page(f"<h1>One</h1>{PROSE}"), "b.xhtml": page(f"<h1>Two</h1>{PROSE}")})
    (tmp_path / "corpus.jsonl").write_text('{"id": "mine", "path": "book.epub", "voice": "narrator"}')

    (document,) = read(tmp_path / "corpus.jsonl", split="chapter")

    assert (document.custom_id, document.title, document.language) == ("mine", "The Book", "en")
    assert [block.chapter for block in document.blocks if block.chapter] == ["One", "Two"]


# Covers


@pytest.mark.parametrize(
    ("extra", "metadata", "guide"),
    [
        ('<item id="i" href="c.png" media-type="image/png" properties="cover-image"/>', "", ""),
        ('<item id="i" href="c.png" media-type="image/png"/>', '<meta name="cover" content="i"/>', ""),
        (
            '<item id="i" href="c.png" media-type="image/png"/>',
            "",
            '<guide><reference type="cover" href="a.xhtml"/></guide>',
        ),
        ('<item id="the-cover" href="c.png" media-type="image/png"/>', "", ""),
    ],
)
def test_cover(tmp_path: Path, extra: str, metadata: str, guide: str) -> None:
    pages = {
        "a.xhtml": page(
            '<svg xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="c.png"/></svg><p>x</p>'
        )
    }
    path = make(
        tmp_path,
        pages,
        files={"OEBPS/c.png": b"\x89PNG"},
        extra=extra,
        metadata=metadata or "<meta/>",
        guide=guide,
    )

    assert epub.cover(path) == (b"\x89PNG", "image/png")


def test_no_cover(tmp_path: Path) -> None:
    (tmp_path / "x.epub").write_bytes(b"no zip")

    assert epub.cover(make(tmp_path, {"a.xhtml": page("<p>x</p>")})) is None
    assert epub.cover(tmp_path / "x.epub") is None


# Damage and attacks


def test_what_is_no_epub_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "x.epub").write_bytes(b"PK\x03\x04 or so")
    assert "not a ZIP" in problem(tmp_path / "x.epub")

    pages = {"a.xhtml": page("<p>x</p>")}
    assert "has no META-INF/container.xml" in problem(
        make(tmp_path, pages, files={"META-INF/container.xml": ""})
    )
    assert "names no package" in problem(
        make(tmp_path, pages, files={"META-INF/container.xml": "<container/>"})
    )
    assert "'OEBPS/book.opf' is missing" in problem(make(tmp_path, pages, files={"OEBPS/book.opf": ""}))
    assert "is no XML" in problem(make(tmp_path, pages, files={"OEBPS/book.opf": "<package><"}))
    assert "spine names no document" in problem(make(tmp_path, pages, spine='<itemref idref="b"/>'))
    assert "no UTF-8 text at byte" in problem(
        make(tmp_path, {"a.xhtml": ""}, files={"OEBPS/a.xhtml": b"<p>\xff</p>"})
    )


def test_a_damaged_archive_is_a_problem(tmp_path: Path) -> None:
    path = make(tmp_path, {"a.xhtml": page(PROSE)})
    data = bytearray(path.read_bytes())
    start = data.find(b"a.xhtml") + 40
    data[start : start + 8] = bytes(8)
    path.write_bytes(data)

    assert "'OEBPS/a.xhtml' cannot be unpacked" in problem(path)


def encryption(method: str, uri: str) -> dict[str, str | bytes]:
    return {
        "META-INF/encryption.xml": '<encryption xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>'
        f'<enc:EncryptionMethod Algorithm="{method}"/><enc:CipherData><enc:CipherReference URI="{uri}"/></enc:CipherData>'
        "</enc:EncryptedData></encryption>"
    }


def test_encrypted_text_is_a_problem(tmp_path: Path) -> None:
    pages = {"a.xhtml": page("<p>x</p>")}

    drm = make(
        tmp_path, pages, files=encryption("http://www.w3.org/2001/04/xmlenc#aes128-cbc", "OEBPS/a.xhtml")
    )
    assert problem(drm) == "is encrypted (DRM): its text cannot be read"
    fonts = make(tmp_path, pages, files=encryption("http://www.idpf.org/2008/embedding", "OEBPS/a.otf"))
    assert texts(fonts) == ["x"]


def test_a_password_is_a_problem(tmp_path: Path) -> None:
    path = make(tmp_path, {"a.xhtml": page("<p>x</p>")})
    data = path.read_bytes()
    entry = data.rfind(b"PK\x01\x02")  # of the last file, in the central directory
    path.write_bytes(data[: entry + 8] + b"\x01" + data[entry + 9 :])

    assert "needs a password" in problem(path)


def test_zip_bombs_are_stopped_while_they_unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = make(tmp_path, {"a.xhtml": page("<p>" + "a" * 5_000_000 + "</p>")})
    assert "ZIP bomb" in problem(bomb)

    monkeypatch.setattr(archive, "MAX_ENTRY_BYTES", 100_000)
    assert "ZIP bomb" in problem(make(tmp_path, {"a.xhtml": page(PROSE * 100)}))

    monkeypatch.setattr(archive, "MAX_ENTRY_BYTES", 1 << 20)
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 200_000)
    assert "ZIP bomb" in problem(make(tmp_path, {f"{n}.xhtml": page(PROSE * 50) for n in range(5)}))


def test_a_size_that_lies_does_not_help(tmp_path: Path) -> None:
    buffer = io.BytesIO(make(tmp_path, {"a.xhtml": page("<p>" + "a" * 5_000_000 + "</p>")}).read_bytes())
    data = buffer.getvalue()
    size = len(page("<p>" + "a" * 5_000_000 + "</p>")).to_bytes(4, "little")
    (tmp_path / "book.epub").write_bytes(data.replace(size, (1000).to_bytes(4, "little")))

    assert "unpack" in problem(tmp_path / "book.epub")


@pytest.mark.parametrize(
    "subset",
    [
        '<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">',
        '<!ENTITY a SYSTEM "file:///etc/passwd">',
        '<!ENTITY % a SYSTEM "http://127.0.0.1/x">',
    ],
)
@pytest.mark.parametrize("where", ["OEBPS/a.xhtml", "OEBPS/book.opf", "META-INF/container.xml"])
def test_entities_are_refused(tmp_path: Path, subset: str, where: str) -> None:
    doctype = f"<!DOCTYPE html [{subset}]>"
    pages = {"a.xhtml": page("<p>&a;</p>")}
    original = {
        "OEBPS/a.xhtml": page("<p>&a;</p>"),
        "OEBPS/book.opf": opf(pages),
        "META-INF/container.xml": CONTAINER,
    }[where]
    declaration, _, rest = original.rpartition("?>\n")

    reason = problem(
        make(tmp_path, pages, files={where: f"{declaration}{'?>' if declaration else ''}{doctype}{rest}"})
    )

    assert "declares entities of its own" in reason


@pytest.mark.parametrize(
    "href",
    [
        "../../../etc/passwd",
        "/etc/passwd",
        "file:///etc/passwd",
        "http://127.0.0.1/",
        "http://[",
        "a%2f..%2f..%2f..%2fb",
    ],
)
def test_nothing_outside_the_archive_is_read(tmp_path: Path, href: str) -> None:
    pages = {"a.xhtml": page("<p>x</p>")}
    evil = opf(pages).replace('href="a.xhtml"', f'href="{href}"')

    assert "spine names no document" in problem(make(tmp_path, pages, files={"OEBPS/book.opf": evil}))


def test_deep_nesting_is_read_or_told(tmp_path: Path) -> None:
    for depth in (200, 1000, 5000):
        path = make(tmp_path, {"a.xhtml": page("<div>" * depth + "deep" + "</div>" * depth)})
        (found,) = readers.read([str(path)])
        assert isinstance(found, Document) if depth == 200 else "nested too deeply" in found.reason
