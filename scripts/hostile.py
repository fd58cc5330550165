#!/usr/bin/env python3
"""What a hostile client can send at an SMTP server, against a running one: clear replies, bounded memory, others are served.

    hostile.py [--connections N]

Each attack runs on a connection of its own (one of them on N) while another client goes on sending mail, whose messages must all be
taken meanwhile. Printed are the reply, the private memory that the server took on during the attack at most, and the
slowest message of the other client. The memory has a bound for each attack; the times are for reading.
"""

import argparse
import pathlib
import resource
import smtplib
import socket
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "interop"))
from server import DOMAIN, Server

USER = f"user1@{DOMAIN}"
MIB = 1 << 20


def private_bytes(pid):
    """What the process has for itself: no file, shared by nobody."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(("Private_Dirty:",)))


class Bystander(threading.Thread):
    """A client that sends one small message after the other."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.ending, self.slowest, self.sent, self.trouble = server, threading.Event(), 0.0, 0, None

    def run(self):
        try:
            client = smtplib.SMTP(*self.server.address("smtp"), timeout=60, local_hostname="bystander.example.test")
            while not self.ending.wait(0.02):
                began = time.monotonic()
                client.sendmail("bystander@example.org", [USER], b"Subject: x\r\n\r\nx\r\n")
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.sent += 1
                # A session may end after so many transactions.
                if self.sent % 500 == 0:
                    client.quit()
                    client.connect(*self.server.address("smtp"))
            client.quit()
        except Exception as error:
            self.trouble = error


class Attacker:
    """A bare connection."""

    def __init__(self, server, hello=True):
        self.socket = socket.create_connection(server.address("smtp"), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb", 1 << 20)
        if hello:
            self.reply()
            self.say(b"EHLO attacker.example.test\r\n")

    def reply(self):
        """A whole reply's last line; empty when the connection is closed."""
        while True:
            line = self.stream.readline()
            if line[3:4] != b"-":
                return line.rstrip(b"\r\n").decode(errors="replace")

    def say(self, octets):
        self.socket.sendall(octets)
        return self.reply()

    def envelope(self):
        assert self.say(b"MAIL FROM:<a@b.example>\r\n").startswith("250")
        assert self.say(b"RCPT TO:<" + USER.encode() + b">\r\n").startswith("250")

    def close(self):
        self.stream.close()
        self.socket.close()


def starts(reply, *codes):
    if not reply.startswith(codes):
        raise AssertionError(f"the reply is {reply!r}, wanted is {' or '.join(codes)}")
    return reply


def command_line(server, _):
    """A command line of 64 KiB: one 500, then the session goes on."""
    client = Attacker(server)
    reply = starts(client.say(b"NOOP " + b"x" * 65536 + b"\r\n"), "500 5.5.2")
    starts(client.say(b"NOOP\r\n"), "250")
    client.close()
    return reply


def endless_line(server, _):
    """100 MB without a line end: one 500, and nothing is kept of it."""
    client = Attacker(server)
    block = b"x" * MIB
    for _ in range(100):
        client.socket.sendall(block)
    reply = starts(client.say(b"\r\n"), "500 5.5.2")
    starts(client.say(b"NOOP\r\n"), "250")
    client.close()
    return reply


def header(server, _):
    """A header of 100 MB: over the limit of a message, 552 when it ends, and nothing is stored."""
    client = Attacker(server)
    client.envelope()
    starts(client.say(b"DATA\r\n"), "354")
    block = b"".join(b"X-%05d: %s\r\n" % (n, b"v" * 86) for n in range(10_000))
    for _ in range(105):
        client.socket.sendall(block)
    reply = starts(client.say(b"\r\n.\r\n"), "552 5.3.4")
    starts(client.say(b"NOOP\r\n"), "250")
    client.close()
    return reply


def one_line(server, begin, end):
    """A message with one line of 40 MB, below the limit of a message."""
    client = Attacker(server)
    client.envelope()
    starts(client.say(b"DATA\r\n"), "354")
    client.socket.sendall(begin)
    block = b"s" * MIB
    for _ in range(40):
        client.socket.sendall(block)
    reply = client.say(end + b".\r\n")
    starts(client.say(b"NOOP\r\n"), "250")
    client.close()
    return reply


def one_header_line(server, _):
    """One header line of 40 MB: over the limit of a header."""
    return starts(one_line(server, b"Subject: ", b"\r\n\r\n"), "552 5.3.4")


def one_body_line(server, _):
    """One line of 40 MB in the body: taken as it is."""
    return starts(one_line(server, b"Subject: x\r\n\r\n", b"\r\n"), "250 2.0.0")


def recipients(server, _):
    """A million RCPT in one transaction, pipelined: a reply to each, 452 beyond the limit."""
    client = Attacker(server)
    client.say(b"MAIL FROM:<a@b.example>\r\n")
    count, seen = 1_000_000, {}
    block = b"RCPT TO:<" + USER.encode() + b">\r\n"
    writer = threading.Thread(target=lambda: [client.socket.sendall(block * 1000) for _ in range(count // 1000)])
    writer.start()
    for _ in range(count):
        line = client.stream.readline()
        seen[line[:9]] = seen.get(line[:9], 0) + 1
    writer.join()
    starts(client.say(b"RSET\r\n"), "250")
    client.close()
    expected = {b"250 2.1.5", b"452 4.5.3"}
    assert set(seen) == expected, seen
    return ", ".join(f"{code.decode()} {n} times" for code, n in seen.items())


def chunk_without_end(server, _):
    """BDAT 18446744073709551616: its end cannot be told, so the connection ends."""
    client = Attacker(server)
    client.envelope()
    reply = starts(client.say(b"BDAT 18446744073709551616 LAST\r\n"), "501 5.5.4")
    assert client.reply() == "", "the connection is still open"
    client.close()
    return reply


def largest_chunk(server, _):
    """BDAT 18446744073709551615, then 100 MB of it: swallowed or closed, never kept."""
    client = Attacker(server)
    client.envelope()
    client.socket.sendall(b"BDAT 18446744073709551615 LAST\r\n")
    sent = 0
    try:
        for _ in range(100):
            client.socket.sendall(b"QUIT\r\n" * (MIB // 6))
            sent += 1
        client.socket.shutdown(socket.SHUT_WR)
        reply = client.reply() or "closed"
    except OSError:
        reply = "closed"
    client.close()
    if reply != "closed":
        starts(reply, "552", "421")
    return f"{reply} ({sent} MiB sent)"


def empty_chunks(server, _):
    """A hundred thousand BDAT 0: a reply to each, no memory."""
    client = Attacker(server)
    client.envelope()
    count = 100_000
    writer = threading.Thread(target=lambda: client.socket.sendall(b"BDAT 0\r\n" * count))
    writer.start()
    replies = {client.stream.readline()[:3] for _ in range(count)}
    writer.join()
    client.close()
    assert replies <= {b"250"}, replies
    return "250"


def nul(server, _):
    """A NUL in every position of a command and of a small message: refused, nothing stored."""
    command = b"MAIL FROM:<a@b.example>"
    for at in range(len(command) + 1):
        client = Attacker(server)
        starts(client.say(command[:at] + b"\0" + command[at:] + b"\r\n"), "5")
        starts(client.say(b"NOOP\r\n"), "250")
        client.close()
    message = b"Subject: x\r\n\r\nbody\r\n"
    reply = ""
    for at in range(len(message) + 1):
        client = Attacker(server)
        client.envelope()
        starts(client.say(b"DATA\r\n"), "354")
        reply = starts(client.say(message[:at] + b"\0" + message[at:] + b"\r\n.\r\n"), "554 5.6.0")
        starts(client.say(b"NOOP\r\n"), "250")
        client.close()
    return reply


def pipelined_nonsense(server, _):
    """A million commands that there are none: 500 until the errors are enough, then 421."""
    client = Attacker(server)
    try:
        for _ in range(100):
            client.socket.sendall(b"XYZZY\r\n" * 10_000)
    except OSError:
        pass
    last = ""
    try:
        while line := client.reply():
            last = line
    except OSError:
        # A connection that is closed with input unread is reset.
        pass
    client.close()
    return starts(last, "421", "500")


def silence(server, connections):
    """Connections that say nothing."""
    crowd = []
    # Many addresses of the loopback network, as a crowd would have.
    for number in range(connections):
        one = socket.socket()
        one.bind((f"127.0.{1 + number // 200 % 200}.{1 + number % 200}", 0))
        one.connect(server.address("smtp"))
        crowd.append(one)
    greetings = {one.recv(100)[:3] for one in crowd}
    time.sleep(1)
    for one in crowd:
        one.close()
    assert greetings == {b"220"}, greetings
    return f"220 to {connections}"


# What each may cost in private memory, in MiB. A store's buffers and its index grow by what is written, whoever writes.
ATTACKS = [
    (command_line, 8), (endless_line, 8), (header, 64), (one_header_line, 8), (one_body_line, 64), (recipients, 16), (chunk_without_end, 8), (largest_chunk, 8),
    (empty_chunks, 8), (nul, 8), (pipelined_nonsense, 8), (silence, None),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=10_000, help="that say nothing")
    parser.add_argument("--silent-kib", type=float, default=16, help="private memory that each of them may cost")
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connections = min(arguments.connections, hard - 200)
    failed = []
    settings = {"policy.connections": connections + 100, "policy.connections_per_address": connections + 100}
    with Server(listeners=("smtp", "pop3"), settings=settings, tls=False) as server:
        for attack, bound in ATTACKS:
            bound = connections * arguments.silent_kib / 1024 if bound is None else bound
            bystander = Bystander(server)
            bystander.start()
            before = private_bytes(server.pid)
            watching = threading.Event()
            most = [before]

            def watch():
                while not watching.wait(0.02):
                    most[0] = max(most[0], private_bytes(server.pid))

            watcher = threading.Thread(target=watch)
            watcher.start()
            began = time.monotonic()
            try:
                reply = attack(server, connections)
            except AssertionError as error:
                reply, failed = f"FAILED: {error}", failed + [attack.__name__]
            seconds = time.monotonic() - began
            watching.set()
            watcher.join()
            bystander.ending.set()
            bystander.join(120)
            grown = (most[0] - before) / MIB
            if bystander.trouble or bystander.is_alive():
                failed.append(f"{attack.__name__}: the other client failed: {bystander.trouble}")
            if grown > bound:
                failed.append(f"{attack.__name__}: {grown:.1f} MiB, at most {bound:.0f} wanted")
            print(f"{attack.__name__:20} {seconds:6.1f} s  +{grown:5.1f} MiB  other client: {bystander.sent} messages, slowest "
                  f"{bystander.slowest * 1000:.0f} ms  {reply}", flush=True)
    if failed:
        sys.exit("FAILED: " + "; ".join(failed))
    print("ok")


if __name__ == "__main__":
    main()
