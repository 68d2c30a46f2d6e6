"""Normalised text of a CSV file, or an error that explains why the file is not CSV."""

from jaxnets.errors import InputError

BOM = b"\xef\xbb\xbf"
RESAVE_HINT = "save it as plain UTF-8 text with commas"
REFETCH_HINT = "download it again"


def clean_text(content: bytes, location: object) -> bytes:
    """Return text without byte order mark, every line ended by LF. Raises InputError for content that is not CSV."""
    start = content[:512].lstrip()
    if not start:
        raise InputError(location, "is empty", REFETCH_HINT)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start[:2]:
        raise InputError(location, "is UTF-16 text", RESAVE_HINT)
    if start.startswith(b"<"):
        fix = "sign in to Kaggle, accept the competition's rules and download it again"
        raise InputError(location, "looks like a web page", fix)
    if start.startswith(b"PK"):
        raise InputError(location, "is a zip archive, not a CSV file", "give it a name ending in .zip")
    if (null := content.find(b"\0")) >= 0:
        row = content.count(b"\n", 0, null) + 1
        raise InputError(f"{location}:{row}", "has a NUL byte: the file is damaged", REFETCH_HINT)
    text = content.removeprefix(BOM).replace(b"\r\n", b"\n")
    header = text.partition(b"\n")[0]
    if b"," not in header and (b";" in header or b"\t" in header):
        raise InputError(f"{location}:1", "columns are not separated by commas", RESAVE_HINT)
    return text if text.endswith(b"\n") else text + b"\n"


def format_field(field: bytes) -> str:
    """Return a field for an error message: on one line and at most 20 characters of it.

    >>> format_field(b"12"), format_field(b" "), format_field(b"abc")
    ('12', 'blank', "'abc'")
    """
    text = field.decode("utf-8", "replace")
    if not text.strip():
        return "blank"
    if text.removeprefix("-").isdecimal() and len(text) <= 20:
        return text
    return repr(text[:20] + "..." if len(text) > 20 else text)
