"""What the engine adds to a message, and the messages that `posthouse-load` makes.

Removing the trace headers is exact: they stand at the very front, in this order, and nothing else may be there.
"""

import re

# Return-Path: the reverse-path, at final delivery (RFC 5321 4.4). Received: one line and its folded parts.
RETURN_PATH = re.compile(rb"\AReturn-Path: <[^>\r\n]*>\r\n")
RECEIVED = re.compile(
    rb"\AReceived: from [^\r\n]+(?:\r\n[ \t][^\r\n]+)*\r\n"
)
WITH = re.compile(rb"\bwith (UTF8)?(SMTP|ESMTP|ESMTPS|ESMTPA|ESMTPSA|SMTPS|SMTPA|SMTPSA|LMTP)\b")


def delivered(message):
    """What of a message arrives in a mailbox: all of it but old Return-Path fields, of which there is just one there, ours."""
    head, separator, body = message.partition(b"\r\n\r\n")
    if not separator:
        head, body = message, b""
    fields = re.sub(rb"(?im)^Return-Path:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)", b"", head)
    return fields + separator + body


def without_trace(message, keyword=None):
    """The message as it was sent. Raises ValueError when the trace headers are not as they must be."""
    if not (return_path := RETURN_PATH.match(message)):
        raise ValueError(f"no Return-Path at the front: {message[:80]!r}")
    message = message[return_path.end():]
    if not (received := RECEIVED.match(message)):
        raise ValueError(f"no Received behind Return-Path: {message[:80]!r}")
    field = re.sub(rb"\r\n[ \t]+", b" ", received.group())
    for part in (rb" by mail\.example\.test\b", rb" id [0-9A-Za-z.]+", rb"; \w{3}, +\d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}"):
        if not re.search(part, field):
            raise ValueError(f"Received lacks {part.decode()}: {field!r}")
    found = WITH.search(field)
    if not found or (keyword and found.group(2).decode() != keyword):
        raise ValueError(f"Received has not `with {keyword or '...'}`: {field!r}")
    return message[received.end():]


ID = re.compile(rb"[0-9a-f]{8}-\d{4}-\d{8}")
FILL = b"abcdefghijklmnopqrstuvwxyz0123456789"


def load_message(identity, size):
    """The message with this id and size, octet by octet as benches/load/template.rs makes it."""
    head = b"From: <load@sender.example>\r\nSubject: load\r\nX-Load-Id: %s\r\nX-Load-Size: %08d\r\n\r\n" % (identity, size)
    parts, left, number = [head], size - len(head), 0
    while left >= 66:
        parts.append(b"%s %06d %s\r\n" % (identity, number, FILL[: 64 - len(identity) - 10]))
        left -= 64
        number += 1
    parts.append(b"x" * (left - 2) + b"\r\n")
    return b"".join(parts)


def load_identity(message):
    """The id and size of a message made by posthouse-load; None when it does not say."""
    found = re.search(rb"^X-Load-Id: (\S+)\r\nX-Load-Size: (\d{8})\r\n", message, re.MULTILINE)
    return (found.group(1), int(found.group(2))) if found else None
