"""The text of a file that an editor wrote in UTF-16 or UTF-32, which Python does not import."""

import codecs

MARKS = {  # the longer ones first: UTF-32's mark begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def as_utf8(content):
    """(the bytes of a text in UTF-8, the encoding they were in); for what Python reads anyway, the bytes unchanged and "".

    Raises ValueError for a text that cannot be decoded.
    """
    encoding = _encoding(content)
    return (content.decode(encoding).encode(), encoding.upper()) if encoding else (content, "")


def _encoding(content):
    for mark, encoding in MARKS.items():
        if content.startswith(mark):
            return encoding
    half = len(content) // 2
    for first, encoding in ((0, "utf-16-be"), (1, "utf-16-le")):  # without a mark: every other byte of a plain text is zero
        if half and content[first::2].count(0) > 0.9 * half:
            return encoding
    return ""
