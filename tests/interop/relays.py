#!/usr/bin/env python3
"""Other servers hand their mail to Posthouse, and Posthouse hands its mail to them: nothing is lost, twice, or changed.

    relays.py [--messages N] [--only WORDS]...    only pairs whose line has these words, or others that are given so

For each peer and direction N messages (tests/interop/numbered.py) go in by SMTP at one side and are compared at the other:
- to us: the peer relays to our submission port with STARTTLS and AUTH, to our SMTP port with STARTTLS or in clear, or to our
  LMTP listener; read back over POP3;
- from us: our queue delivers to the peer by SMTP (STARTTLS and AUTH where the peer can), or by LMTP; read from its Maildirs. What a
  peer of this direction would take otherwise (in clear, without AUTH) it refuses.
At last a peer refuses recipients, for good and for now: the queue and the log say so in its words.

By hand: `--messages 10000`.
"""

import argparse
import pathlib
import queue
import re
import shutil
import smtplib
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import numbered
from peer import dovecot, exim, mail, opensmtpd, postfix
from pop import Reader
from server import PASSWORD, Server, free_port, in_ci

SENDER = "sender@sender.example"
USERS = 4
# Messages that are sent over one connection: OpenSMTPD grants 100.
A_CONNECTION = 100


def send_all(address, wanted, recipient, threads=8, **options):
    """Sends every message by its own transaction; raises when one is refused."""
    work = queue.SimpleQueue()
    for number in wanted:
        work.put(number)
    trouble = []

    def connect():
        client = smtplib.SMTP(*address, timeout=120, local_hostname="client.example.test")
        client.ehlo()
        return client

    def run():
        try:
            client, sent = connect(), 0
            while not trouble:
                try:
                    number = work.get_nowait()
                except queue.Empty:
                    break
                if sent == A_CONNECTION:
                    client.quit()
                    client, sent = connect(), 0
                sent += 1
                message = wanted[number]
                body = ["BODY=8BITMIME"] if any(octet > 0x7F for octet in message) else []
                client.sendmail(SENDER, [recipient(number)], message, mail_options=body)
            client.quit()
        except Exception as error:
            trouble.append(error)

    crew = [threading.Thread(target=run) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    if trouble:
        raise trouble[0]


def read_ours(server):
    """Every message of every account."""
    found = []
    for user in server.users:
        reader = Reader(server.address("pop3"), user, PASSWORD)
        found += [message for _, message in reader.messages()]
        reader.quit()
    return found


def count_ours(server):
    count = 0
    for user in server.users:
        reader = Reader(server.address("pop3"), user, PASSWORD)
        count += reader.count
        reader.quit()
    return count


def until(count, wanted, peer, what):
    """Waits until as many have arrived; gives up when nothing has come for a minute."""
    last, since = -1, time.monotonic()
    while (now := count()) < wanted:
        if now != last:
            last, since = now, time.monotonic()
        if time.monotonic() - since > 60:
            raise SystemExit(f"FAILED {what}: {now} of {wanted} arrived, nothing for a minute\n{peer.trouble()}")
        time.sleep(0.2)


def report(what, wrong, count, since):
    if wrong:
        raise SystemExit(f"FAILED {what}:\n" + "\n".join(wrong[:10]))
    print(f"ok {what}: {count} messages, {time.monotonic() - since:.1f} s", flush=True)


def to_us(what, make, base, server, messages, listener, **options):
    """`make(base, port, ...)` makes the peer; its mail for our accounts comes to us."""
    since = time.monotonic()
    if "relay_lmtp" not in options or options["relay_lmtp"] is True:
        options["relay"] = server.address(listener)
    peer = make(base, free_port(), **options).start()
    try:
        account = lambda number: server.users[number % USERS]
        wanted = {n: numbered.message(n, SENDER.encode(), account(n).encode()) for n in range(messages)}
        send_all(peer.address, wanted, account)
        until(lambda: count_ours(server), messages, peer, what)
        report(what, numbered.differences(read_ours(server), wanted), messages, since)
    finally:
        peer.stop()
        server.empty()


class Front(Server):
    """An instance without accounts: all its mail goes out by a route."""

    def __init__(self, route):
        super().__init__(users=0, listeners=("smtp",), domain="front.test", settings={
            "policy.connections_per_address": 4000, "policy.relay_networks": '["127.0.0.0/8"]', "delivery.first_retry_seconds": 1,
            "delivery.longest_retry_seconds": 2})
        self.add_route(domain="*", **route)

    def queue(self):
        return self.run("queue", "list", "--instance", self.instance)

    def outcomes(self, outcome):
        """Lines of the log about deliveries that ended like this."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if f'outcome="{outcome}"' in line]


def from_us(what, peer, messages, route, recipient, count=None, read=None, line_end=b"\n"):
    """What comes in at a `Front` goes to `peer`, which runs, by `route`, and is found there by `count` and `read`."""
    since = time.monotonic()
    with Front(route) as front:
        wanted = {n: numbered.message(n, SENDER.encode(), recipient(n).encode()) for n in range(messages)}
        send_all(front.address("smtp"), wanted, recipient)
        accepted = time.monotonic() - since
        try:
            until(count or peer.count, messages, peer, what)
        except SystemExit:
            print(front.tail(), file=sys.stderr)
            raise
        arrived = time.monotonic() - since
        # The answer to the last message is on its way.
        deadline = time.monotonic() + 20
        while not (left := front.queue()).startswith("0 entries") and time.monotonic() < deadline:
            time.sleep(0.1)
        wrong = numbered.differences((read or peer.messages)(), wanted, line_end)
        if not left.startswith("0 entries"):
            wrong.append(f"the queue is not empty: {left}")
        delivered, deferred = (len(front.outcomes(outcome)) for outcome in ("delivered", "deferred"))
        if delivered != messages:
            wrong.append(f"{delivered} deliveries of {messages} were told")
        report(f"{what} (accepted after {accepted:.1f} s, arrived after {arrived:.1f} s, {deferred} deferred)", wrong, messages, since)


def refused(what, peer, route, domain):
    """One recipient of three is taken, one is refused for good and one for now; each is told in the peer's words."""
    since = time.monotonic()
    who = [f"{name}@{domain}" for name in ("taken", "never", "later")]
    with Front(route) as front:
        wanted = {0: numbered.message(0, SENDER.encode(), who[0].encode())}
        with smtplib.SMTP(*front.address("smtp"), timeout=60) as client:
            client.sendmail(SENDER, who, wanted[0])
        deadline = time.monotonic() + 30
        while (len(front.outcomes("deferred")) < 2 or peer.count() < 1) and time.monotonic() < deadline:
            time.sleep(0.1)
        listed = front.queue()
        rows = listed.splitlines()
        wrong = numbered.differences(peer.messages(), wanted, b"\n")
        shown = front.run("queue", "show", "--instance", front.instance, rows[1].split()[0]) if len(rows) == 3 else listed
        expected = [
            (listed, r"<never@\S+> <later@\S+> \(1 failed\) \(1 deferred\)\n1 entry in the queue"),
            (shown, r"to +<never@\S+> failed\n +attempts 1, at .*\n +550 5\.1\.1 .*nobody of this name"),
            (shown, r"to +<later@\S+> deferred\n +attempts [2-9]\d*, next at .*\n +450 4\.2\.1 .*mailbox is busy"),
            ("\n".join(front.outcomes("failed")), r"^.*to=never@.*attempts=1 .*550 5\.1\.1 .*nobody of this name"),
            ("\n".join(front.outcomes("deferred")), r"^.*to=later@.*attempts=1 .*450 4\.2\.1 .*mailbox is busy.*\n.*to=later@.*attempts=2 "),
            ("\n".join(front.outcomes("delivered")), r"^.*to=taken@.*attempts=1 .*250 2\.0\.0 .*$"),
        ]
        wrong += [f"{pattern!r} is not in {text!r}" for text, pattern in expected if not re.search(pattern, text)]
        if len(front.outcomes("failed")) != 1 or len(front.outcomes("delivered")) != 1:
            wrong.append("told more than once: " + "\n".join(front.outcomes("failed") + front.outcomes("delivered")))
        report(what, wrong, 1, since)


class OurServer(Server):
    """With a mailbox that can be emptied between the pairs."""

    def __init__(self, socket=None, listeners=("smtp", "submission", "pop3"), **options):
        """`socket`: the path of an LMTP listener, beside one on a port."""
        self.socket = socket
        if socket:
            listeners = (*listeners, "lmtp", f"lmtp={socket}")
        limit = {"policy.connections": 4000, "policy.connections_per_address": 4000, "submission.sender_rights": '"login"'}
        super().__init__(users=USERS, listeners=listeners, settings=limit | options.pop("settings", {}), **options)

    def empty(self):
        for user in self.users:
            reader = Reader(self.address("pop3"), user, PASSWORD)
            reader.delete(range(1, reader.count + 1))
            reader.quit()


class Run:
    """The pairs of this run, each in a directory of its own."""

    def __init__(self, base, server, messages, only):
        self.base, self.server, self.messages, self.only = base, server, messages, only
        self.skipped, self.number = [], 0

    def wanted(self, what, *modules):
        """Whether this pair is to run, and can."""
        if self.only and not any(words in what for words in self.only):
            return False
        for module in modules:
            if reason := module.reason_to_skip():
                print(f"SKIP {what}: {reason}", flush=True)
                self.skipped.append(what)
                return False
        return True

    def directory(self):
        self.number += 1
        return self.base / str(self.number)

    def all_to_us(self):
        tls, login = {"relay_tls": True}, {"relay_tls": True, "relay_login": (self.server.users[0], PASSWORD)}
        host, port = self.server.address("lmtp")
        ways = [("in clear", "smtp", {}), ("STARTTLS", "smtp", tls), ("STARTTLS and AUTH", "submission", login)]
        by_lmtp = {
            "Postfix": [("LMTP", "lmtp", {"relay_lmtp": f"inet:[{host}]:{port}"}),
                        ("LMTP by a Unix socket", "lmtp", {"relay_lmtp": f"unix:{self.server.socket}"})],
            "Exim": [("LMTP", "lmtp", {"relay_lmtp": True})],
        }
        for module, make in ((postfix, postfix.Postfix), (exim, exim.Exim), (opensmtpd, opensmtpd.OpenSmtpd)):
            for how, listener, options in ways + by_lmtp.get(make.name, []):
                what = f"{make.name} to us, {how}"
                if self.wanted(what, module):
                    to_us(what, make, self.directory(), self.server, self.messages, listener, **options)

    def pair(self, what, modules, make, protocol, domain, **route):
        """`make()` makes the peer. Its `address` is where the route leads, unless `route` has `to`."""
        if not self.wanted(what, *modules):
            return
        peer = make().start()
        try:
            route = {"to": f"{protocol}:{peer.address[0]}:{peer.address[1]}"} | route
            from_us(what, peer, self.messages, route, lambda number: f"user{number % USERS + 1}@{domain}")
        finally:
            peer.stop()

    def all_from_us(self):
        certificate = mail.certificate(self.base)
        clear, tls = {"tls": "none"}, {"tls": "required", "authorities": certificate[0]}
        login = {"login": "user", "password": "secret"}
        with_tls = {"certificate": certificate, "needs_tls": True}
        for module, make in ((postfix, postfix.Postfix), (exim, exim.Exim), (opensmtpd, opensmtpd.OpenSmtpd)):
            domain = f"{make.name.lower()}.test"
            new = lambda **options: lambda: make(self.directory(), free_port(), **options)
            self.pair(f"us to {make.name}, in clear", [module], new(), "smtp", domain, **clear)
            if module is opensmtpd:
                continue
            self.pair(f"us to {make.name}, STARTTLS", [module], new(**with_tls), "smtp", domain, **tls)
            if module is exim:
                self.pair("us to Exim, STARTTLS and AUTH", [module], new(**with_tls, needs_login=True), "smtp", domain, **tls, **login)
        self.postfix_with_login(with_tls, tls | login)
        new = lambda: dovecot.Dovecot(self.directory(), free_port(), free_port())
        self.pair("us to Dovecot, LMTP", [dovecot], new, "lmtp", "dovecot.test", **clear)
        self.pair("us to Dovecot, LMTP by a Unix socket", [dovecot], new, "lmtp", "dovecot.test", **clear,
                  to=f"lmtp:{self.base}/{self.number + 1}/lmtp")
        self.dovecot_submission(certificate, tls | login)

    def postfix_with_login(self, with_tls, route):
        what = "us to Postfix with Dovecot's SASL, STARTTLS and AUTH"
        if not self.wanted(what, postfix, dovecot):
            return
        verifier = dovecot.Dovecot(self.directory(), free_port(), free_port()).start()
        try:
            new = lambda: postfix.Postfix(self.directory(), free_port(), auth_socket=verifier.auth_socket, needs_login=True, **with_tls)
            self.pair(what, [postfix], new, "smtp", "postfix.test", **route)
        finally:
            verifier.stop()

    def dovecot_submission(self, certificate, route):
        """Dovecot takes it from one instance of ours and relays it to the other."""
        what = "us to Dovecot, submission, STARTTLS and AUTH, and on to us"
        if not self.wanted(what, dovecot):
            return
        server = self.server
        peer = dovecot.Dovecot(self.directory(), free_port(), free_port(), relay=server.address("smtp"), certificate=certificate).start()
        try:
            from_us(what, peer, self.messages, route | {"to": "smtp:%s:%d" % peer.submission}, lambda number: server.users[number % USERS],
                    lambda: count_ours(server), lambda: read_ours(server), b"\r\n")
        finally:
            peer.stop()
            server.empty()

    def refusals(self):
        what = "us to Postfix, which refuses recipients"
        if not self.wanted(what, postfix):
            return
        peer = postfix.Postfix(self.directory(), free_port(), refusals={
            "never@postfix.test": "550 5.1.1 nobody of this name", "later@postfix.test": "450 4.2.1 mailbox is busy"}).start()
        try:
            refused(what, peer, {"to": "smtp:%s:%d" % peer.address}, "postfix.test")
        finally:
            peer.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--only", action="append", default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="posthouse-relays-") as base:
        base = pathlib.Path(base)
        base.chmod(0o755)
        with OurServer(base / "our-lmtp") as server:
            # The socket is for our group alone, and Postfix has another.
            if "postfix" in pathlib.Path("/etc/passwd").read_text():
                shutil.chown(server.socket, group="postfix")
            run = Run(base, server, arguments.messages, arguments.only)
            run.all_to_us()
            run.all_from_us()
            run.refusals()
    if run.skipped and in_ci():
        sys.exit(f"FAILED: nothing may be skipped here: {', '.join(run.skipped)}")


if __name__ == "__main__":
    main()
