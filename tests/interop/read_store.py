#!/usr/bin/env python3
"""Reads stores with nothing but docs/format.md, and so proves that document.

    read_store.py                 every folder of tests/formats, compared with its listing
    read_store.py DIRECTORY       prints what the store in a directory holds; it must not be open

It knows FORMAT, segments, records, message bodies and exports, not the index, which can be made from the others. It writes
nothing. CRC32C and BLAKE3 are computed here, in plain Python: for small stores.
"""

import pathlib
import struct
import sys

FORMATS = pathlib.Path(__file__).resolve().parent.parent / "formats"
PAGE = 4096


class Damage(Exception):
    """What the document does not allow."""


def must(condition, text):
    if not condition:
        raise Damage(text)


# Checksums

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)


def crc32c(data, so_far=0):
    """RFC 3720 appendix B.4, continued from the checksum of what was before."""
    crc, table = so_far ^ 0xFFFFFFFF, TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
STEPS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8


def compress(chaining, words, counter, size, flags):
    v = [*chaining, *IV[:4], counter & 0xFFFFFFFF, counter >> 32, size, flags]
    for turn in range(7):
        for step, (a, b, c, d) in enumerate(STEPS):
            va, vb, vc, vd = v[a], v[b], v[c], v[d]
            va = va + vb + words[2 * step] & 0xFFFFFFFF
            vd ^= va
            vd = (vd >> 16 | vd << 16) & 0xFFFFFFFF
            vc = vc + vd & 0xFFFFFFFF
            vb ^= vc
            vb = (vb >> 12 | vb << 20) & 0xFFFFFFFF
            va = va + vb + words[2 * step + 1] & 0xFFFFFFFF
            vd ^= va
            vd = (vd >> 8 | vd << 24) & 0xFFFFFFFF
            vc = vc + vd & 0xFFFFFFFF
            vb ^= vc
            v[a], v[b], v[c], v[d] = va, (vb >> 7 | vb << 25) & 0xFFFFFFFF, vc, vd
        words = [words[place] for place in ORDER]
    return [v[n] ^ v[n + 8] for n in range(8)]


def blake3(data):
    """The 32 bytes of the hash."""

    def chunk(part, counter, root):
        chaining = IV
        blocks = [part[at : at + 64] for at in range(0, len(part), 64)] or [b""]
        for number, block in enumerate(blocks):
            flags = (CHUNK_START if number == 0 else 0) | ((CHUNK_END | root) if number == len(blocks) - 1 else 0)
            words = struct.unpack("<16I", block.ljust(64, b"\0"))
            chaining = compress(chaining, words, counter, len(block), flags)
        return chaining

    def tree(parts, first, root):
        if len(parts) == 1:
            return chunk(parts[0], first, root)
        left = 1 << (len(parts) - 1).bit_length() - 1
        words = tree(parts[:left], first, 0) + tree(parts[left:], first + left, 0)
        return compress(IV, words, 0, 64, PARENT | root)

    parts = [data[at : at + 1024] for at in range(0, len(data), 1024)] or [b""]
    return struct.pack("<8I", *tree(parts, 0, ROOT))


class Reader:
    """Reads from the front."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        must(self.at + n <= len(self.data), "it ends too early")
        self.at += n
        return self.data[self.at - n : self.at]

    def fixed(self, layout):
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def u64(self):
        return self.fixed("Q")[0]

    def number(self):
        value, shift = 0, 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                must(value < 1 << 64, "a number has more than 64 bits")
                return value
            must(shift < 70, "a number has more than ten bytes")

    def numbers(self, count):
        return [self.number() for _ in range(count)]

    def signed(self):
        number = self.number()
        return number >> 1 ^ -(number & 1)

    def bytes(self):
        return self.take(self.number())

    def uids(self):
        uids, uid = [], 0
        for _ in range(self.number()):
            uid += self.number()
            uids.append(uid)
        return uids

    def recipients(self):
        return [self.recipient() for _ in range(self.number())]

    def recipient(self):
        (state,) = self.take(1)
        must(state <= 4, "a recipient's state is unknown")
        words = [("remote", "local", "held", "deferred", "failed")[state]]
        if state in (1, 3, 4):
            words += map(str, self.numbers(2))
        if state >= 3:
            words.append(hexadecimal(self.bytes()))
        return self.bytes(), self.bytes(), " ".join(words)

    def chunks(self):
        return [tuple(self.numbers(2)) for _ in range(self.number())]

    def end(self):
        must(self.at == len(self.data), "something is left behind the end")


def wrap(number):
    return number % (1 << 64)


# Files

class Segment:
    """A segment's header, and its records once they are read."""

    def __init__(self, name, data, uuid):
        self.name, self.data = name, data
        must(name[2] == "-" and len(name) == 19, f"{name}: not a segment's name")
        copies = [data[at : at + 2048] for at in (0, 2048)]
        whole = [copy for copy in copies if len(copy) == 2048 and copy[:8] == b"PHSEGMNT"
                 and struct.pack("<I", crc32c(copy[:2044])) == copy[2044:]]
        must(len(whole) == 2 and whole[0] == whole[1], f"{name}: a copy of the header is damaged")
        reader = Reader(whole[0][8:])
        major, _, self.lane, a, b, c = reader.fixed("HHBBBB")
        theirs = reader.take(16)
        self.number, self.first, _, self.salt, self.before, self.before_end, self.before_lsn, _, features = reader.fixed(
            "QQIIQQQQI")
        must(major == 1 and features == 0, f"{name}: a version that this reader does not know")
        must(theirs == uuid and (a, b, c) == (0, 0, 0) and not any(whole[0][92:2044]), f"{name}: the header")
        must((self.lane, self.number) == (int(name[:2], 16), int(name[3:], 16)), f"{name}: another one's header")
        self.records = {}

    def record(self, at):
        """What stands at an offset: LSN, durable LSN, type, flags, body, length. None when it is no record."""
        head = self.data[at : at + 32]
        if len(head) < 32 or struct.pack("<I", crc32c(head[4:], self.salt)) != head[:4]:
            return None
        _, size, kind, version, flags, crc, lsn, delta, zero = struct.unpack("<IIBBHIQII", head)
        body = self.data[at + 32 : at + 32 + size]
        if len(body) < size or crc32c(body) != crc:
            return None
        must(version == 1 and size <= 16 << 20 and zero == 0 and lsn > 0, f"{self.name} at {at}: the header of a record")
        return lsn, lsn - delta, kind, flags, body, (32 + size + 7) // 8 * 8

    def read(self, end, expected, last):
        """Reads all records up to the end, where it is known; yields the transactions. The LSN behind."""
        at, transaction, transactions = 4096, None, []
        while end is None or at < end:
            record = self.record(at)
            if record is None or record[0] != expected:
                must(end is None, f"{self.name} at {at}: damaged")
                break
            lsn, _, kind, flags, body, length = record
            must(not any(self.data[at + 32 + len(body) : at + length]), f"{self.name} at {at}: the padding")
            if flags & 16:
                transaction = []
            must(transaction is not None, f"{self.name} at {at}: no transaction begins here")
            transaction.append((lsn, kind, body, at))
            if flags & 1:
                transactions.append(transaction)
                transaction = None
            self.records[at] = kind, body
            at, expected = at + length, expected + 1
        if last:
            # The torn end of the log, unless something later tells that it was durable.
            for place in range(at, len(self.data), 8):
                later = self.record(place)
                must(later is None or later[1] < expected, f"{self.name} at {at}: damaged, {place} tells")
        return transactions, expected


class Export:
    """An export's rows."""

    def __init__(self, name, data, uuid):
        self.rows = []
        header, footer = data[:128], data[-80:]
        must(header[:8] == b"PHEXPORT" and struct.pack("<I", crc32c(header[:124])) == header[124:], f"{name}: the header")
        reader = Reader(header[8:])
        major, _, self.lane, _, _, _ = reader.fixed("HHBBBB")
        theirs = reader.take(16)
        self.lsn, self.segment, self.offset, version, features = reader.fixed("QQQII")
        must(major == 1 and version == 1 and features == 0, f"{name}: a version that this reader does not know")
        must(theirs == uuid and name == f"{self.lane:02x}-{self.lsn:016x}", f"{name}: another one's header")
        must(footer[:8] == b"PHEXPEND" and struct.pack("<I", crc32c(footer[:76])) == footer[76:], f"{name}: the footer")
        rows, blocks, size = struct.unpack("<QQQ", footer[8:32])
        must(size == len(data) - 80 and struct.unpack("<Q", footer[64:72])[0] == self.lsn, f"{name}: the footer's numbers")
        must(blake3(data[:size]) == footer[32:64], f"{name}: the hash")
        at, number, last = 128, 0, None
        while at < size:
            crc, length, count, place = struct.unpack("<IIII", data[at : at + 16])
            block = data[at + 16 : at + 16 + length]
            must(crc == crc32c(data[at + 4 : at + 16 + length]) and place == number, f"{name}: block {number}")
            reader = Reader(block)
            for _ in range(count):
                row = reader.take(1)[0], reader.bytes(), reader.bytes()
                must(last is None or last < row[:2], f"{name}: rows do not rise")
                last = row[:2]
                self.rows.append(row)
            reader.end()
            at, number = at + 16 + length, number + 1
        must((rows, blocks) == (len(self.rows), number), f"{name}: the footer's counts")


# What the records mean

class Mailbox:
    def __init__(self, validity, name, following=1, modseq=1):
        self.validity, self.name, self.following, self.modseq, self.rows = validity, name, following, modseq, {}

    def add(self, uid, row):
        """A row: message, bytes, received, MODSEQ, envelope flags, flags."""
        self.rows[uid] = row
        self.following, self.modseq = max(self.following, uid + 1), max(self.modseq, row[3])


class Lane:
    """What the log of an ordinary lane says, from its newest export on."""

    def __init__(self, number, segments, export):
        self.number = number
        self.mailboxes, self.queue, self.places, self.values = {}, {}, {}, {}
        shown = 0
        if export:
            shown = export.lsn
            for row in export.rows:
                self.load(*row)
        expected = 1
        for place, segment in enumerate(segments):
            if segment.first != expected:
                must(expected < segment.first <= shown + 1, f"{segment.name}: records before it are missing")
            after = segments[place + 1] if place + 1 < len(segments) else None
            end = after.before_end if after and after.before == segment.number else None
            transactions, expected = segment.read(end, segment.first, after is None)
            for transaction in transactions:
                for lsn, kind, body, at in transaction:
                    if lsn > shown:
                        self.apply(kind, body, segment.number, at)
        must(expected > shown, f"lane {number}: the log ends before its export")

    def load(self, table, key, value):
        reader = Reader(value)
        if table == 1:
            segment, offset, length, size, references = *reader.numbers(4), reader.signed()
            queued, chunks = reader.take(1)[0], []
            while reader.at < len(value):
                chunks.append((reader.number(), reader.number() * 8))
            must(references > 0 or queued, "a place that nobody refers to")
            self.places[int.from_bytes(key, "big")] = [segment, offset * 8, size, chunks]
        elif table == 2:
            size, received, flags, prefix = reader.numbers(4)
            self.queue[int.from_bytes(key, "big")] = (size, received, flags, prefix, reader.bytes(), reader.bytes(), reader.recipients())
            reader.end()
        elif table == 3:
            validity, following, modseq, messages, size, _ = reader.numbers(6)
            self.mailboxes[struct.unpack(">II", key)] = Mailbox(validity, reader.bytes(), following, modseq)
            reader.end()
        elif table == 4:
            account, mailbox, first = struct.unpack(">III", key)
            box, uid, message, received, modseq = self.mailboxes[account, mailbox], 0, 0, 0, 0
            while reader.at < len(value):
                uid += reader.number()
                message = wrap(message + reader.signed())
                size = reader.number()
                received = wrap(received + reader.signed())
                modseq = wrap(modseq + reader.signed())
                must(uid >= first and uid not in box.rows, "a pack's key")
                box.rows[uid] = [message, size, received, modseq, *reader.numbers(2)]
        elif table == 6:
            self.values[key[0], key[1:]] = value
        else:
            must(table in (5, 7), f"an export has table {table}")

    def deliver(self, message, account, mailbox, uid, modseq, size, received, flags, old=False):
        box = self.mailboxes.get((account, mailbox))
        if box is None or (old and uid in box.rows):
            return False
        box.add(uid, [message, size, received, modseq, flags, 0])
        return True

    def message(self, body, segment, at, copy):
        meta = Reader(body[len(body) - 4 - struct.unpack("<I", body[-4:])[0] : -4])
        message, digest = meta.u64(), meta.take(32)
        size, received, flags, prefix = meta.numbers(4)
        sender, parameters = meta.bytes(), meta.bytes()
        deliveries = [meta.numbers(4) for _ in range(meta.number())]
        recipients, chunks = meta.recipients(), meta.chunks()
        meta.end()
        if copy and message in self.places:
            self.places[message][:2] = segment, at
            return
        held = 0
        for account, mailbox, uid, modseq in deliveries:
            held += self.deliver(message, account, mailbox, uid, modseq, size, received, flags, copy)
        if recipients:
            self.queue[message] = size, received, flags, prefix, sender, parameters, recipients
        if recipients or held:
            self.places[message] = [segment, at, size, chunks]

    def apply(self, kind, body, segment, at):
        reader = Reader(body)
        if kind in (1, 16):
            return self.message(body, segment, at, kind == 16)
        if kind == 4:
            message, (account, mailbox, uid, modseq, size, received, flags) = reader.u64(), reader.numbers(7)
            self.deliver(message, account, mailbox, uid, modseq, size, received, flags)
        elif kind == 5:
            account, mailbox, modseq, add, remove = reader.numbers(5)
            uids, box = reader.uids(), self.mailboxes.get((account, mailbox))
            for uid in uids if box else ():
                row = box.rows.get(uid)
                if row and row[5] & ~remove | add != row[5]:
                    row[5], row[3] = row[5] & ~remove | add, modseq
            if box:
                box.modseq = max(box.modseq, modseq)
        elif kind == 6:
            account, mailbox, modseq = reader.numbers(3)
            uids, box = reader.uids(), self.mailboxes.get((account, mailbox))
            if box:
                box.modseq = max(box.modseq, modseq)
                for uid in uids:
                    box.rows.pop(uid, None)
        elif kind == 7:
            account, mailbox, validity = reader.numbers(3)
            self.mailboxes.setdefault((account, mailbox), Mailbox(validity, reader.bytes()))
        elif kind == 8:
            account = reader.number()
            self.mailboxes = {key: box for key, box in self.mailboxes.items() if key[0] != account}
        elif kind == 9:
            message, _, recipients = reader.u64(), reader.number(), reader.recipients()
            if not recipients:
                self.queue.pop(message, None)
            elif message in self.queue:
                self.queue[message] = *self.queue[message][:6], recipients
        elif kind == 10:
            reader.u64(), reader.number()
        elif kind == 11:
            reader.u64(), reader.numbers(2)
        elif kind == 12:
            (table,), key, (there,) = reader.take(1), reader.bytes(), reader.take(1)
            must(1 <= table <= 4 and there <= 1, "a ROW")
            if there:
                self.values[table, key] = reader.bytes()
            else:
                self.values.pop((table, key), None)
        elif kind == 13:
            message, chunks = reader.u64(), reader.chunks()
            if message in self.places:
                self.places[message][3] = chunks
        elif kind == 17:
            account, source, target, gone, come, count = reader.numbers(6)
            source, target = self.mailboxes.get((account, source)), self.mailboxes.get((account, target))
            old, new, moved = 0, 0, []
            for _ in range(count):
                old, new = old + reader.number(), new + reader.number()
                if source and target and old in source.rows:
                    moved.append((new, source.rows.pop(old)))
            if source and target:
                source.modseq, target.modseq = max(source.modseq, gone), max(target.modseq, come)
                target.following = max(target.following, new + 1)
                for uid, row in moved:
                    row[3] = come
                    target.add(uid, row)
        else:
            must(kind == 14, f"an ordinary lane has a record of type {kind}")
        reader.end()


class Store:
    """All of a store; `files` gives names and bytes."""

    def __init__(self, files):
        head = files["FORMAT"]
        must(len(head) >= 64 and head[:8] == b"PHFORMAT" and struct.pack("<I", crc32c(head[:60])) == head[60:64], "FORMAT")
        reader = Reader(head[8:])
        _, _, least, self.lanes, _, _, ro_compat, incompat, _ = reader.fixed("HHHBBIIII")
        must(least <= 1 and incompat & ~1 == 0 and 1 <= self.lanes <= 16, "FORMAT: a version that this reader does not know")
        self.uuid = reader.take(16)
        logs = [self.log(files, lane) for lane in range(self.lanes + 1)]
        exports = {}
        for name in sorted(files):
            if name.startswith("export/") and name.endswith(".phx"):
                export = Export(name[7:-4], files[name], self.uuid)
                exports[export.lane] = export
        self.ordinary = [Lane(lane, logs[lane], exports.get(lane)) for lane in range(self.lanes)]
        self.segments = {(segment.lane, segment.number): segment for log in logs for segment in log}
        large = logs[self.lanes]
        for place, segment in enumerate(large):
            after = large[place + 1] if place + 1 < len(large) else None
            segment.read(after.before_end if after and after.before == segment.number else None, segment.first, after is None)

    def log(self, files, lane):
        names = sorted(name for name in files if name.startswith(f"seg/{lane:02x}-") and name.endswith(".phl"))
        segments = [Segment(name[4:-4], files[name], self.uuid) for name in names]
        # Void: one that a later header leaves out.
        return [one for one in segments if not any(s.number > one.number > s.before for s in segments)]

    def bytes(self, message):
        lane = message >> 56
        segment, at, size, chunks = self.ordinary[lane].places[message]
        kind, body = self.segments[lane, segment].records[at]
        must(kind in (1, 16), f"message {message:016x}: its place holds no message")
        (length,) = struct.unpack("<I", body[-4:])
        front, tail = body[: len(body) - 4 - length], Reader(body[len(body) - 4 - length : -4])
        must(tail.u64() == message, f"message {message:016x}: another one is at its place")
        digest = tail.take(32)
        for number, place in enumerate(chunks):
            kind, body = self.segments[self.lanes, place[0]].records[place[1]]
            must(kind == 2, f"message {message:016x}: no chunk at {place}")
            owner, offset, index, zero = struct.unpack("<QQII", body[:24])
            must((owner, offset, index, zero) == (message, len(front), number, 0), f"message {message:016x}: chunk {number}")
            must(len(body) == 24 + 131072 or number == len(chunks) - 1, f"message {message:016x}: chunk {number} is not full")
            front += body[24:]
        must(len(front) == size and blake3(front) == digest, f"message {message:016x}: its bytes")
        return front, digest

    def listing(self):
        """As tests/formats.rs writes it."""

        def hexadecimal(data):
            return "-" + data.hex()

        lines, messages = [f"lanes {self.lanes}"], set()
        boxes = {key: box for lane in self.ordinary for key, box in lane.mailboxes.items()}
        for (account, mailbox), box in sorted(boxes.items()):
            must(self.lane_of(account) == next(l.number for l in self.ordinary if (account, mailbox) in l.mailboxes), "a lane")
            total = sum(row[1] for row in box.rows.values())
            lines.append(f"mailbox {account} {mailbox} {box.validity} {box.following} {box.modseq} {len(box.rows)} {total} "
                         + hexadecimal(box.name))
            for uid, (message, size, received, modseq, envelope, flags) in sorted(box.rows.items()):
                messages.add(message)
                lines.append(f"row {account} {mailbox} {uid} {message:016x} {size} {received} {modseq} {envelope} {flags}")
        queue = {message: entry for lane in self.ordinary for message, entry in lane.queue.items()}
        for message, (size, received, flags, prefix, sender, parameters, recipients) in sorted(queue.items()):
            messages.add(message)
            lines.append(f"queue {message:016x} {size} {received} {flags} {prefix} {hexadecimal(sender)} {hexadecimal(parameters)}")
            for address, parameters, state in recipients:
                lines.append(f"recipient {message:016x} {hexadecimal(address)} {hexadecimal(parameters)} {state}")
        for (table, key), value in sorted(self.ordinary[0].values.items()):
            lines.append(f"value {table} {hexadecimal(key)} {hexadecimal(value)}")
        for message in sorted(messages):
            front, digest = self.bytes(message)
            lines.append(f"message {message:016x} {len(front)} {digest.hex()}")
        return lines

    def lane_of(self, account):
        return (account * 0x9E3779B9 % (1 << 32) >> 16) % self.lanes


def golden(folder):
    """Files of a folder of tests/formats, and its listing without them."""
    files, lines = {}, []
    for line in (folder / "listing").read_text().splitlines():
        if not line.startswith("file "):
            lines += [] if line.startswith("#") else [line]
            continue
        name, size, *places = line.split()[1:]
        kept, whole = (folder / "store" / name).read_bytes(), bytearray(int(size))
        for place in map(int, places):
            length = min(PAGE, len(whole) - place)
            whole[place : place + length], kept = kept[:length], kept[length:]
        must(not kept, f"{folder.name}: {name}: the listing does not fit")
        files[name] = bytes(whole)
    return files, lines


def prove():
    # The published test vectors of both checksums.
    must(crc32c(bytes(32)) == 0x8A9136AA and crc32c(b"56789", crc32c(b"1234")) == 0xE3069283, "CRC32C")
    must(blake3(b"").hex().startswith("af1349b9f5f9a1a6a0404dea36dcc949"), "BLAKE3")
    folders = sorted(path.parent for path in FORMATS.glob("v1-*/listing"))
    must(len(folders) >= 3, f"{FORMATS}: no stores")
    for folder in folders:
        files, expected = golden(folder)
        found = Store(files).listing()
        for line in sorted(set(expected) ^ set(found)):
            print(f"{folder.name}: {'missing' if line in expected else 'not there'}: {line}")
        must(found == expected, f"{folder.name}: not what its listing says")
        print(f"{folder.name}: {len(found)} lines agree")
        # A reader that sees no damage proves nothing.
        name = min(name for name in files if name.startswith("seg/00-"))
        for at in (4096 + 8, 4096 + 40):
            bad = bytearray(files[name])
            bad[at] ^= 1
            try:
                Store({**files, name: bytes(bad)}).listing()
            except (Damage, KeyError):
                continue
            must(False, f"{folder.name}: {name} at {at} was changed, and it was not noticed")


def main():
    try:
        if len(sys.argv) == 1:
            return prove()
        root = pathlib.Path(sys.argv[1])
        files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.glob("*/*.ph[lx]")}
        print("\n".join(Store({"FORMAT": (root / "FORMAT").read_bytes(), **files}).listing()))
    except Damage as damage:
        sys.exit(f"damage: {damage}")


if __name__ == "__main__":
    main()
