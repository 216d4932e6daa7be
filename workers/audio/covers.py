"""Pictures that audio files can carry: PNG and JPEG, known by their first bytes."""

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
LARGEST = 20_000_000  # bytes: more is no cover, and every player would have to swallow it


def suffix(picture: bytes) -> str | None:
    """`png` or `jpg`; None for anything else, and for what is too large."""
    if len(picture) > LARGEST:
        return None
    if picture.startswith(PNG):
        return "png"
    return "jpg" if picture.startswith(JPEG) else None
