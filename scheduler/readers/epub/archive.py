"""The ZIP file that an EPUB is, read so that it can harm nobody: limits on size, no way out, no tricks in its XML."""

import posixpath
import re
import zipfile
import zlib
from html.entities import html5
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import SplitResult, unquote, urlsplit

from lxml import etree

from scheduler.readers import source
from scheduler.readers.source import ReadError

MAX_ENTRY_BYTES = 64 << 20  # uncompressed
MAX_TOTAL_BYTES = 1 << 30  # uncompressed, all that is read
MAX_RATIO = 200  # uncompressed to compressed, for entries large enough to matter
_RATIO_MATTERS_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16
_ENCRYPTED_FLAG = 0x1

_DECLARED_ENCODING = re.compile(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_XML_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*>")
_DOCTYPE = re.compile(r"<!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>", re.DOTALL | re.IGNORECASE)
_ENTITY_DECLARATION = re.compile(r"<!ENTITY", re.IGNORECASE)
_NAMED_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]*);")
_XML_ENTITIES = frozenset(("amp", "lt", "gt", "quot", "apos"))
_SELF_CLOSED = re.compile(rb"<([A-Za-z][\w:.-]*)([^<>]*)/>")
_VOID = frozenset(
    (b"area", b"base", b"br", b"col", b"embed", b"hr", b"img", b"input", b"link", b"meta", b"wbr")
)


class Archive:
    """An open EPUB file. Close it."""

    def __init__(self, path: Path) -> None:
        """Raises ReadError where the file is no ZIP archive."""
        self._left = MAX_TOTAL_BYTES
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise ReadError(reason="is no EPUB: not a ZIP archive, or a damaged one") from error
        self._entries = {entry.filename: entry for entry in self._zip.infolist()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def read(self, name: str) -> bytes:
        """The bytes of an entry. Raises ReadError where it is missing, damaged, encrypted or too large."""
        entry = self._entries.get(name)
        if entry is None:
            raise ReadError(reason=f"is damaged: {name!r} is missing in it")
        if entry.flag_bits & _ENCRYPTED_FLAG:
            raise ReadError(reason=f"is encrypted: {name!r} needs a password")
        try:
            return self._inflated(entry)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            raise ReadError(reason=f"is damaged: {name!r} cannot be unpacked ({error})") from error

    def _inflated(self, entry: zipfile.ZipInfo) -> bytes:
        """Counts what really comes out: the sizes that an archive states of itself prove nothing."""
        data = bytearray()
        with self._zip.open(entry) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                data += chunk
                self._left -= len(chunk)
                ratio = len(data) / max(1, entry.compress_size)
                bomb = len(data) > _RATIO_MATTERS_BYTES and ratio > MAX_RATIO
                if bomb or len(data) > MAX_ENTRY_BYTES or self._left < 0:
                    raise ReadError(
                        reason=f"unpacks to more than is sensible ({entry.filename!r}): a ZIP bomb?"
                    )
        return bytes(data)


def joined(base: str, href: str) -> str | None:
    """The entry that a link in the entry `base` leads to, without its fragment; None where it leads outside."""
    parts = _parts(href)
    if parts is None or parts.scheme or parts.netloc or parts.path.startswith("/"):
        return None
    if not parts.path:
        return base
    name = posixpath.normpath(posixpath.join(posixpath.dirname(base), unquote(parts.path)))
    return None if name.startswith(("..", "/")) else name


def fragment(href: str) -> str:
    """The id that a link leads to in its document; empty where it leads to the whole."""
    parts = _parts(href)
    return unquote(parts.fragment) if parts else ""


def _parts(href: str) -> SplitResult | None:
    try:
        return urlsplit(href.strip())
    except ValueError:  # such as a wrong IPv6 address
        return None


def xml(data: bytes, name: str) -> Any:
    """The root element of an XML entry. Raises ReadError."""
    try:
        return etree.fromstring(_prepared(data, name), _xml_parser())
    except etree.XMLSyntaxError as error:
        raise ReadError(reason=f"is damaged: {name!r} is no XML ({error.msg})") from error


def content(data: bytes, name: str) -> Any:
    """The root element of a content document: XHTML, or whatever HTML can be made of it. Raises ReadError."""
    prepared = _prepared(data, name)
    try:
        return etree.fromstring(prepared, _xml_parser())
    except etree.XMLSyntaxError:
        pass
    parser = _html_parser()
    try:
        root = etree.fromstring(_SELF_CLOSED.sub(_opened, prepared), parser)
    except etree.XMLSyntaxError:
        root = None
    if any(error.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for error in parser.error_log):
        raise ReadError(reason=f"is damaged: {name!r} is nested too deeply")  # the parser drops what is deeper
    if root is None:
        raise ReadError(reason=f"is damaged: there is nothing in {name!r}")
    return root


def _xml_parser() -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        encoding="utf-8",
    )


def _html_parser() -> etree.HTMLParser:
    return etree.HTMLParser(
        no_network=True, huge_tree=True, remove_comments=True, remove_pis=True, encoding="utf-8"
    )


def _opened(match: re.Match[bytes]) -> bytes:
    """`<a id="x"/>` as HTML has to say it: there, a slash closes nothing."""
    return match[0] if match[1].lower() in _VOID else b"<%b%b></%b>" % (match[1], match[2], match[1])


def _prepared(data: bytes, name: str) -> bytes:
    """The entry in UTF-8, without a document type, named characters filled in. Raises ReadError."""
    text = _XML_DECLARATION.sub("", _decoded(data, name), count=1)
    if _ENTITY_DECLARATION.search(text):
        raise ReadError(reason=f"declares entities of its own in {name!r}, which is refused as unsafe")
    return _NAMED_ENTITY.sub(_character, _DOCTYPE.sub("", text, count=1)).encode()


def _decoded(data: bytes, name: str) -> str:
    declared = _DECLARED_ENCODING.match(data)
    encoding = source.encoding_of(data, declared[1].decode() if declared else "utf-8")
    try:
        return data.decode(encoding)
    except LookupError:
        raise ReadError(reason=f"has {name!r} in an unknown encoding ({encoding})") from None
    except UnicodeDecodeError as error:
        raise ReadError(
            reason=f"is damaged: {name!r} is no {error.encoding.upper()} text at byte {error.start}"
        ) from error


def _character(match: re.Match[str]) -> str:
    """The character that HTML knows by this name; XML alone knows five of them."""
    character = html5.get(f"{match[1]};")
    if character is None or match[1] in _XML_ENTITIES:
        return match[0]
    return "".join(f"&#{ord(part)};" for part in character)
