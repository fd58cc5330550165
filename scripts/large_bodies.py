#!/usr/bin/env python3
"""What a session costs in memory while a large message comes in or goes out: at most 512 KiB, whatever the size.

So many connections at once each send a message by DATA, then one by BDAT, and read both back by POP3, where each octet must be
what was sent. The figure is the server's anonymous memory (RssAnon, looked at every few milliseconds) at its highest, less what
it was before the messages, for each of them. One large message is sent and read before, by one connection: what it costs once
(segments, threads) is not a session's price. All is done twice: with malloc as it is, whose arenas keep what was freed, logins'
memory too, and with malloc told to give every larger buffer pages of its own, so that what is held is what is seen. Exit code 1
above the target.
"""

import argparse
import hashlib
import pathlib
import random
import re
import socket
import string
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "interop"))
from server import PASSWORD, Server, skip

TARGET_KIB = 512.0
BLOCK = 256 << 10
OWN_PAGES = ("MALLOC_MMAP_THRESHOLD_=16384", "MALLOC_TRIM_THRESHOLD_=0", "MALLOC_TOP_PAD_=0")


def anonymous_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^RssAnon:\s+(\d+) kB", text, re.MULTILINE).group(1))


class Peak:
    """The highest RssAnon while it is entered."""

    def __init__(self, pid):
        self.pid, self.kib, self.samples, self.over = pid, 0, 0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        while not self.over.is_set():
            self.kib, self.samples = max(self.kib, anonymous_kib(self.pid)), self.samples + 1
            time.sleep(0.003)

    def __enter__(self):
        self.before = anonymous_kib(self.pid)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


class Message:
    """A message of so many octets in blocks of lines, some of which begin with dots; the same for the same seed."""

    def __init__(self, seed, octets):
        randomness = random.Random(seed)
        lines, size = [], 0
        while size < BLOCK:
            line = "".join(randomness.choices(string.ascii_letters, k=randomness.randrange(20, 76)))
            lines.append(("." if randomness.random() < 0.05 and lines else "") + line + "\r\n")
            size += len(lines[-1])
        # A block's first line tells it from the others.
        self.text = "".join(lines).encode()
        self.head = b"Subject: large %d\r\n\r\n" % seed
        self.blocks = max(octets // len(self.text), 1)

    def parts(self, stuffed):
        """What goes over the wire, part by part: with dots doubled or not."""
        text = self.text.replace(b"\r\n.", b"\r\n..") if stuffed else self.text
        yield self.head
        for number in range(self.blocks):
            yield b"%012d\r\n" % number + text

    def digest(self):
        """Octets and hash as POP3 sends them."""
        octets, digest = 0, hashlib.sha256()
        for part in self.parts(True):
            octets += len(part)
            digest.update(part)
        return octets, digest.hexdigest()


class Client:
    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=300)
        self.stream = self.socket.makefile("rb", buffering=1 << 16)

    def reply(self, expected):
        while (line := self.stream.readline())[3:4] == b"-" and expected.isdigit():
            pass
        if not line.startswith(expected.encode()):
            raise RuntimeError(f"{expected} was expected, not {line!r}")
        return line

    def command(self, text, expected):
        self.socket.sendall(text.encode() + b"\r\n")
        return self.reply(expected)

    def close(self):
        self.stream.close()
        self.socket.close()


def send(address, user, message, bdat):
    client = Client(address)
    client.reply("220")
    client.command("EHLO client.example", "250")
    client.command("MAIL FROM:<sender@client.example>", "250")
    client.command(f"RCPT TO:<{user}>", "250")
    if bdat:
        for part in message.parts(False):
            client.socket.sendall(b"BDAT %d\r\n" % len(part) + part)
            client.reply("250")
        client.command("BDAT 0 LAST", "250")
    else:
        client.command("DATA", "354")
        for part in message.parts(True):
            client.socket.sendall(part)
        client.command(".", "250")
    client.command("QUIT", "221")
    client.close()


class Reader:
    """A POP3 session that is logged in."""

    def __init__(self, address, user):
        self.client = Client(address)
        self.client.reply("+OK")
        self.client.command(f"USER {user}", "+OK")
        self.client.command(f"PASS {PASSWORD}", "+OK")

    def retrieve(self, number, message):
        octets, wanted = message.digest()
        stream = self.client.stream
        self.client.command(f"RETR {number}", "+OK")
        first = message.head.partition(b"\r\n")[0]
        # Trace headers stand in front.
        for _ in range(20):
            if (line := stream.readline()).rstrip(b"\r\n") == first:
                break
        digest, left = hashlib.sha256(line), octets - len(line)
        while left:
            if not (part := stream.read(min(left, 1 << 18))):
                raise RuntimeError(f"the connection ended {left} octets before the message")
            digest.update(part)
            left -= len(part)
        if (end := stream.readline()) != b".\r\n":
            raise RuntimeError(f"the message goes on: {end!r}")
        if digest.hexdigest() != wanted:
            raise RuntimeError(f"message {number} is not what was sent")

    def close(self):
        self.client.command("QUIT", "+OK")
        self.client.close()


def together(jobs):
    """Runs all at once; the first failure is ours."""
    failures = []

    def run(job):
        try:
            job()
        except Exception as error:  # whatever it is, it is told
            failures.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=8, help="connections at once")
    parser.add_argument("--mib", type=int, default=64, help="of each message")
    parser.add_argument("--quick", action="store_true", help="4 connections with 16 MiB each")
    parser.add_argument("--big", action="store_true", help="one connection with 1 GiB")
    parser.add_argument("--target-kib", type=float, default=TARGET_KIB)
    parser.add_argument("--directory", default="/var/tmp", help="where the instance is made; not a memory file system")
    arguments = parser.parse_args()
    if not pathlib.Path("/proc/self/status").exists():
        skip("no /proc/PID/status on this system")
    if arguments.quick:
        arguments.sessions, arguments.mib = 4, 16
    if arguments.big:
        arguments.sessions, arguments.mib = 1, 1024
    failed = False
    for what, environment in (("malloc as it is", ()), ("buffers in pages of their own", OWN_PAGES)):
        print(f"{what}:", flush=True)
        failed |= run(arguments, environment)
    return 1 if failed else 0


def run(arguments, environment):
    """One server's figures; whether one is above the target."""
    sessions, octets = arguments.sessions, arguments.mib << 20
    failed = False
    with tempfile.TemporaryDirectory(prefix="posthouse-large-", dir=arguments.directory) as directory, Server(
        users=sessions, listeners=("smtp", "pop3"), directory=directory, tls=False, wrapper=["env", *environment],
        settings={"smtp.message_bytes": octets + (1 << 20)},
    ) as server:
        smtp, pop3 = server.address("smtp"), server.address("pop3")

        def measured(what, held, work):
            nonlocal failed
            begun = time.monotonic()
            with Peak(server.pid) as peak:
                together([lambda n=n: work(n, held) for n in range(sessions)])
            each = (peak.kib - peak.before) / sessions
            verdict = "PASS" if each <= arguments.target_kib else "FAIL"
            failed |= verdict == "FAIL"
            print(f"  {what}, {sessions} at once, {arguments.mib} MiB each: {each:.0f} KiB each (RssAnon {peak.before} KiB before, "
                  f"{peak.kib} KiB at its highest, {peak.samples} looks, {time.monotonic() - begun:.1f} s); "
                  f"target {arguments.target_kib:g} KiB: {verdict}", flush=True)

        # Once, for what is paid once.
        user, warm = server.users[0], Message(1000, 1 << 20)
        send(smtp, user, warm, False)
        reader = Reader(pop3, user)
        reader.retrieve(1, warm)
        reader.client.command("DELE 1", "+OK")
        reader.close()
        messages = [[Message(2 * n + way, octets) for n in range(sessions)] for way in (0, 1)]
        for way, name in enumerate(("DATA", "BDAT")):
            measured(name, (), lambda n, _: send(smtp, server.users[n], messages[way][n], bool(way)))
        readers = [Reader(pop3, user) for user in server.users]
        for way, name in enumerate(("RETR of what came by DATA", "RETR of what came by BDAT")):
            measured(name, readers, lambda n, held: held[n].retrieve(way + 1, messages[way][n]))
        for reader in readers:
            reader.close()
    return failed


if __name__ == "__main__":
    sys.exit(main())
