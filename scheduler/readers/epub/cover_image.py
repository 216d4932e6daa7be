"""The cover of an EPUB, wherever its makers have put it."""

from collections.abc import Iterator

from scheduler.readers.epub import archive, package

_IMAGES = ("image/", "application/svg")


def find(opened: archive.Archive) -> tuple[bytes, str] | None:
    """The image and its media type, None where there is none. Raises ReadError."""
    opf = package.load(opened)
    for item in _candidates(opened, opf):
        if item.media_type.startswith(_IMAGES) and item.name in opened:
            return opened.read(item.name), item.media_type
    return None


def _candidates(opened: archive.Archive, opf: package.Package) -> Iterator[package.Item]:
    """EPUB 3 marks it in the manifest, EPUB 2 by a `meta` or the guide, and some by nothing but its name."""
    yield from (item for item in opf.items if "cover-image" in item.properties)
    yield from (item for item in opf.items if opf.cover_id in (item.id, item.name))
    by_name = {item.name: item for item in opf.items}
    for reference in opf.guide:
        if reference.kind == "cover" and reference.name in opened:
            yield from _shown_on(opened, reference.name, by_name)
    yield from (item for item in opf.items if "cover" in item.id.lower() or "cover" in item.name.lower())


def _shown_on(opened: archive.Archive, name: str, items: dict[str, package.Item]) -> Iterator[package.Item]:
    """The images of a page; the page itself may be one."""
    if name in items:
        yield items[name]
    if name.endswith(("html", "htm", "xml")):
        root = archive.content(opened.read(name), name)
        for image in (*package.find(root, "img"), *package.find(root, "image")):
            href = (
                image.get("src") or image.get("{http://www.w3.org/1999/xlink}href") or image.get("href") or ""
            )
            if (target := archive.joined(name, href)) in items:
                yield items[target]
