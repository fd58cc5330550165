#!/usr/bin/env python3
"""Clients that people use send through Posthouse: swaks, curl, msmtp, s-nail, Python's smtplib; nothing is lost, twice, or changed.

    clients.py [--messages N] [--only NAME,...]

Each sends by submission with STARTTLS and AUTH, over implicit TLS with AUTH, and in clear to SMTP, as far as it can. Messages are
those of tests/interop/numbered.py; s-nail makes its own of what it is given, so only its text is compared. Programs that send one
message a run send a tenth of them.

By hand: `--messages 10000`.
"""

import argparse
import os
import pathlib
import quopri
import shutil
import smtplib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import numbered
from corpus import unverified
from relays import OurServer, read_ours
from server import PASSWORD, in_ci

SENDER = "user1@example.test"


def run(command, text=None, **options):
    done = subprocess.run(list(map(str, command)), input=text, capture_output=True, timeout=120, **options)
    if done.returncode != 0:
        raise SystemExit(f"FAILED {command[0]}: exit code {done.returncode}\n{(done.stdout + done.stderr).decode(errors='replace')[-2000:]}")


class Smtplib:
    name, each = "smtplib", False
    ways = ("smtp", "submission", "submissions")

    @staticmethod
    def send(server, way, wanted, recipient, base):
        host, port = server.address(way)
        kind = smtplib.SMTP_SSL if way == "submissions" else smtplib.SMTP
        options = {"context": unverified()} if way == "submissions" else {}
        client = kind(host, port, timeout=60, local_hostname="client.example.test", **options)
        if way == "submission":
            client.starttls(context=unverified())
        if way != "smtp":
            client.login(SENDER, PASSWORD)
        for number, message in wanted.items():
            body = ["BODY=8BITMIME"] if any(octet > 0x7F for octet in message) else []
            client.sendmail(SENDER, [recipient(number)], message, mail_options=body)
        client.quit()


class Swaks:
    name, each = "swaks", True
    ways = ("smtp", "submission", "submissions")

    @staticmethod
    def send(server, way, wanted, recipient, base):
        host, port = server.address(way)
        tls = {"smtp": [], "submission": ["--tls"], "submissions": ["--tls-on-connect"]}[way]
        login = [] if way == "smtp" else ["--auth", "PLAIN,LOGIN", "--auth-user", SENDER, "--auth-password", PASSWORD]
        for number, message in wanted.items():
            file = base / "message"
            file.write_bytes(message)
            run(["swaks", "--server", host, "--port", port, *tls, *login, "--from", SENDER, "--to", recipient(number), "--ehlo",
                 "client.example.test", "--no-data-fixup", "--data", dotted(file)], env=os.environ | {"LC_ALL": "C"})


def dotted(file):
    """swaks without its fix-ups wants what goes over the wire."""
    text = file.read_bytes().replace(b"\r\n.", b"\r\n..")
    file.write_bytes(text + b".\r\n" if text.endswith(b"\r\n") else text + b"\r\n.\r\n")
    return f"@{file}"


class Curl:
    name, each = "curl", True
    ways = ("smtp", "submission", "submissions")

    @staticmethod
    def send(server, way, wanted, recipient, base):
        host, port = server.address(way)
        scheme = "smtps" if way == "submissions" else "smtp"
        login = [] if way == "smtp" else ["--ssl-reqd", "--insecure", "--user", f"{SENDER}:{PASSWORD}"]
        for number, message in wanted.items():
            run(["curl", "--silent", "--show-error", "--url", f"{scheme}://{host}:{port}/client.example.test", *login,
                 "--mail-from", SENDER, "--mail-rcpt", recipient(number), "--upload-file", "-"], message)


class Msmtp:
    name, each = "msmtp", True
    ways = ("smtp", "submission", "submissions")

    @staticmethod
    def send(server, way, wanted, recipient, base):
        host, port = server.address(way)
        login = ["--auth=off", "--tls=off"] if way == "smtp" else [
            "--auth=on", f"--user={SENDER}", f"--passwordeval=cat {server.password_file}", "--tls=on", "--tls-certcheck=off",
            f"--tls-starttls={'on' if way == 'submission' else 'off'}"]
        for number, message in wanted.items():
            run(["msmtp", f"--host={host}", f"--port={port}", "--domain=client.example.test", f"--from={SENDER}", *login,
                 "--", recipient(number)], message.replace(b"\r\n", b"\n"))


class Snail:
    name, each = "s-nail", True
    ways = ("smtp", "submission", "submissions")

    @staticmethod
    def send(server, way, wanted, recipient, base):
        host, port = server.address(way)
        user = f"{SENDER.replace('@', '%40')}:{PASSWORD.replace(' ', '%20')}@"
        url = {"smtp": f"smtp://{host}:{port}", "submission": f"submission://{user}{host}:{port}",
               "submissions": f"submissions://{user}{host}:{port}"}[way]
        options = ["-S", "v15-compat", "-S", f"mta={url}", "-S", "tls-verify=ignore",
                   "-S", f"from={SENDER}", "-S", f"smtp-auth={'none' if way == 'smtp' else 'plain'}", "-S", "hostname=client.example.test"]
        if way == "submission":
            options += ["-S", "smtp-use-starttls"]
        for number, message in wanted.items():
            text = message.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")
            run(["s-nail", "-:/", *options, "-s", f"number {number}", recipient(number)], b"X-Number: %d\n" % number + text)

    @staticmethod
    def stored(text):
        """What of a stored message is to be compared: the text, behind its number."""
        head, _, body = text.partition(b"\r\n\r\n")
        if b"quoted-printable" in head.lower():
            body = quopri.decodestring(body.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
        return body


def wanted_of(client, numbers, recipient):
    plain = client is Snail
    wanted = {n: numbered.message(n, SENDER.encode(), recipient(n).encode(), plain) for n in numbers}
    return wanted


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    arguments = parser.parse_args()
    skipped = []
    with tempfile.TemporaryDirectory() as base, OurServer(listeners=("smtp", "submission", "submissions", "pop3")) as server:
        base = pathlib.Path(base)
        for client in (Smtplib, Swaks, Curl, Msmtp, Snail):
            if arguments.only and client.name not in arguments.only:
                continue
            if client.each and shutil.which(client.name) is None:
                print(f"SKIP {client.name}: it is not installed", flush=True)
                skipped.append(client.name)
                continue
            for way in client.ways:
                since = time.monotonic()
                recipient = lambda number: server.users[number % len(server.users)]
                wanted = wanted_of(client, range(arguments.messages // 10 if client.each else arguments.messages), recipient)
                client.send(server, way, wanted, recipient, base)
                found = read_ours(server)
                if client is Snail:
                    found = [Snail.stored(text) for text in found]
                    wanted = {n: b"X-Number: %d\r\n" % n + text.partition(b"\r\n\r\n")[2] for n, text in wanted.items()}
                wrong = numbered.differences(found, wanted)
                if wrong:
                    raise SystemExit(f"FAILED {client.name} by {way}:\n" + "\n".join(wrong[:10]))
                print(f"ok {client.name} by {way}: {len(wanted)} messages, {time.monotonic() - since:.1f} s", flush=True)
                server.empty()
    if skipped and in_ci():
        sys.exit(f"FAILED: nothing may be skipped here: {', '.join(skipped)}")


if __name__ == "__main__":
    main()
