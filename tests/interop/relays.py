#!/usr/bin/env python3
"""Other servers hand their mail to Posthouse, and Posthouse hands its mail to them: nothing is lost, twice, or changed.

    relays.py [--messages N] [--only NAME,...]

For each peer and direction N messages (tests/interop/numbered.py) go in by SMTP at one side and are compared at the other:
- to us: the peer relays to our submission port with STARTTLS and AUTH, or to our SMTP port with STARTTLS or in clear; read back over POP3;
- from us: our queue delivers to the peer by SMTP (STARTTLS and AUTH where the peer can), or by LMTP; read from its Maildirs.

By hand: `--messages 10000`.
"""

import argparse
import os
import pathlib
import queue
import smtplib
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import numbered
from peer import dovecot, exim, mail, opensmtpd, postfix
from pop import Reader
from server import DOMAIN, PASSWORD, Server, free_port, in_ci

SENDER = "sender@sender.example"
USERS = 4


def send_all(address, wanted, recipient, threads=8, **options):
    """Sends every message by its own transaction; raises when one is refused."""
    work = queue.SimpleQueue()
    for number in wanted:
        work.put(number)
    trouble = []

    def run():
        try:
            client = smtplib.SMTP(*address, timeout=120, local_hostname="client.example.test")
            client.ehlo()
            while not trouble:
                try:
                    number = work.get_nowait()
                except queue.Empty:
                    break
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


def to_us(name, make, base, server, messages, **options):
    """`make(relay, ...)` makes the peer; its mail for our accounts comes to us."""
    listener = "submission" if options.get("relay_login") else "smtp"
    how = "STARTTLS and AUTH" if options.get("relay_login") else "STARTTLS" if options.get("relay_tls") else "in clear"
    what = f"{name} to us, {how}"
    since = time.monotonic()
    peer = make(base, free_port(), relay=server.address(listener), **options).start()
    try:
        account = lambda number: server.users[number % USERS]
        wanted = {n: numbered.message(n, SENDER.encode(), account(n).encode()) for n in range(messages)}
        send_all(peer.address, wanted, account)
        until(lambda: count_ours(server), messages, peer, what)
        report(what, numbered.differences(read_ours(server), wanted), messages, since)
    finally:
        peer.stop()
        server.empty()


class OurServer(Server):
    """With a mailbox that can be emptied between the pairs."""

    def __init__(self, **options):
        limit = {"policy.connections": 4000, "policy.connections_per_address": 4000}
        super().__init__(users=USERS, listeners=options.pop("listeners", ("smtp", "submission", "pop3")), settings=limit | options.pop("settings", {}), **options)

    def empty(self):
        for user in self.users:
            reader = Reader(self.address("pop3"), user, PASSWORD)
            reader.delete(range(1, reader.count + 1))
            reader.quit()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    arguments = parser.parse_args()
    skipped = []
    with tempfile.TemporaryDirectory(prefix="posthouse-relays-") as base, OurServer() as server:
        base = pathlib.Path(base)
        base.chmod(0o755)
        login = {"relay_tls": True, "relay_login": (server.users[0], PASSWORD)}
        pairs = [
            ("Postfix", postfix, postfix.Postfix, [{}, {"relay_tls": True}, login]),
            ("Exim", exim, exim.Exim, [{}, {"relay_tls": True}, login]),
            ("OpenSMTPD", opensmtpd, opensmtpd.OpenSmtpd, [{}, {"relay_tls": True}, login]),
        ]
        for name, module, make, ways in pairs:
            if arguments.only and name not in arguments.only:
                continue
            if reason := module.reason_to_skip():
                print(f"SKIP {name}: {reason}", flush=True)
                skipped.append(name)
                continue
            for number, options in enumerate(ways):
                to_us(name, make, base / f"{name}-{number}", server, arguments.messages, **options)
    if skipped and in_ci():
        sys.exit(f"FAILED: nothing may be skipped here: {', '.join(skipped)}")


if __name__ == "__main__":
    main()
