"""Messages with a number that is found again wherever a server has put its own header fields.

Each is different and stands on its own: lines that begin with dots, 8-bit text, lines of 998 octets, empty bodies, up to
64 KiB. Every field that a server would add is there already. What a server puts in front ends where `X-Number:` begins.
"""

import random

DATE = b"Sat, 21 Nov 2026 10:00:00 +0000"


def message(number, sender, recipient, plain=False):
    """The message of this number, with CRLF. `plain`: ASCII lines of at most 76 octets, for clients that would encode others."""
    chance = random.Random(number)
    kind = number % 10
    if plain:
        body = b"".join(b"%d %s\r\n" % (n, b"." * chance.randrange(60)) for n in range(chance.randrange(1, 60))) + b".\r\n..a\r\n"
    elif kind == 0:
        body = b""
    elif kind == 1:
        body = b".\r\n..\r\n.a\r\n...\r\n\r\n.\r\n"
    elif kind == 2:
        body = bytes(range(0x80, 0x100)) + b"\r\n" + "Grüße, 漢字\r\n".encode() * 20
    elif kind == 3:
        body = b"".join(b"%s\r\n" % (b"l" * length) for length in (998, 997, 996, 76, 1, 0, 998))
    elif kind == 4:
        body = b"".join(b"%07d %s\r\n" % (n, b"m" * 54) for n in range(1024))
    else:
        body = b"".join(b"%s \t\r\n" % (b"%x" % chance.getrandbits(200)) for _ in range(chance.randrange(1, 120)))
    return (b"X-Number: %d\r\nFrom: <%s>\r\nTo: <%s>\r\nSubject: number %d\r\nDate: %s\r\nMessage-ID: <%d.%d@numbered.example.test>\r\n"
            b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: %s\r\n\r\n" % (
                number, sender, recipient, number, DATE, number, chance.getrandbits(32),
                b"us-ascii" if plain else b"utf-8", b"7bit" if plain else b"8bit")) + body


def number_of(stored):
    """The number of a stored message; None when it has none."""
    _, found, rest = stored.partition(b"X-Number: ")
    return int(rest.split(None, 1)[0]) if found else None


def differences(stored, wanted, line_end=b"\r\n"):
    """What is wrong with these stored messages, where `wanted` is number -> message: a list of sentences, empty when all is well."""
    seen, wrong = {}, []
    for text in stored:
        number = number_of(text)
        if number not in wanted:
            wrong.append(f"a message that nobody sent: {text[:100]!r}")
            continue
        seen[number] = seen.get(number, 0) + 1
        own = b"X-Number: " + text.partition(b"X-Number: ")[2]
        sent = wanted[number].replace(b"\r\n", line_end)
        if own != sent:
            at = next((n for n, (a, b) in enumerate(zip(own, sent)) if a != b), min(len(own), len(sent)))
            wrong.append(f"number {number}: {len(sent)} octets sent, {len(own)} stored, different at {at}: "
                         f"sent {sent[max(0, at - 20):at + 40]!r}, stored {own[max(0, at - 20):at + 40]!r}")
    wrong += [f"number {number} is there {count} times" for number, count in seen.items() if count > 1]
    missing = sorted(set(wanted) - set(seen))
    if missing:
        wrong.append(f"{len(missing)} are missing, for instance {missing[:5]}")
    return wrong
