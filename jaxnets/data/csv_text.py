"""The bytes of a CSV file, made uniform, or a word on why they are no CSV at all."""

from jaxnets.errors import InputError

BOM = b"\xef\xbb\xbf"
PLAIN = "save it as plain UTF-8 text with commas"
AGAIN = "download it again"


def clean_text(content: bytes, place: object) -> bytes:
    """Without byte order mark, with LF line ends, the last line ended too; InputError for what is no CSV."""
    start = content[:512].lstrip()
    if not start:
        raise InputError(place, "is empty", AGAIN)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start[:2]:
        raise InputError(place, "is UTF-16 text", PLAIN)
    if start.startswith(b"<"):
        fix = "sign in to Kaggle, accept the competition's rules and download it again"
        raise InputError(place, "looks like a web page", fix)
    if start.startswith(b"PK"):
        raise InputError(place, "is a zip archive, not a CSV file", "give it a name ending in .zip")
    if (null := content.find(b"\0")) >= 0:
        row = content.count(b"\n", 0, null) + 1
        raise InputError(f"{place}:{row}", "has a NUL byte: the file is damaged", AGAIN)
    text = content.removeprefix(BOM).replace(b"\r\n", b"\n")
    header = text.partition(b"\n")[0]
    if b"," not in header and (b";" in header or b"\t" in header):
        raise InputError(f"{place}:1", "columns are not divided by commas", PLAIN)
    return text if text.endswith(b"\n") else text + b"\n"


def shown(field: bytes) -> str:
    """A field as a message shows it: on one line, and not too long of it."""
    text = field.decode("utf-8", "replace")
    if not text.strip():
        return "blank"
    if text.removeprefix("-").isdecimal() and len(text) <= 20:
        return text
    return repr(text[:20] + "..." if len(text) > 20 else text)
