#!/usr/bin/env python3
"""Fills a small disk with mail, and proves that nothing acknowledged is lost and that service resumes without a restart.

The instance is on a tmpfs of its own. In each round: mail is sent until MAIL is answered with 452; every message whose
250 was seen must be there, whole, once; a filler then takes all that is left, and deleting over POP3 must work all
the same; what was deleted stays away, the rest stays there. Then the filler goes (and whatever the store gives back by
itself comes on top), and mail must be taken again by the same process. At the end `posthouse check` finds nothing.

Needs root for the mount.
"""

import argparse
import errno
import os
import pathlib
import smtplib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "interop"))
from message import load_identity, load_message, without_trace
from pop import Reader
from server import DOMAIN, PASSWORD, Server, skip

USERS = 3


class Damage(Exception):
    pass


def send_until_full(server, run, size, acknowledged, limit):
    """Sends until 452; the reply. Every id whose 250 was seen is added."""
    number = 0
    client = smtplib.SMTP(*server.address("smtp"), timeout=60)
    client.ehlo(f"client.{DOMAIN}")
    try:
        while number < limit:
            identity = f"{run}-{number}".encode()
            code, text = client.mail("sender@else.test")
            if code == 452:
                return text
            if code != 250:
                raise Damage(f"MAIL was answered {code} {text!r}")
            user = server.users[number % USERS]
            if client.rcpt(user)[0] != 250:
                raise Damage(f"RCPT {user} was refused")
            # Not client.data, which stuffs and ends lines by its own rules.
            code, text = client.docmd("DATA")
            if code != 354:
                if code == 452:
                    return text
                raise Damage(f"DATA was answered {code} {text!r}")
            client.send(load_message(identity, size).replace(b"\r\n.", b"\r\n..") + b".\r\n")
            code, text = client.getreply()
            if code == 250:
                acknowledged.add(identity)
            elif code == 452:
                # The message on its way when space became low.
                pass
            else:
                raise Damage(f"the data was answered {code} {text!r}")
            number += 1
    finally:
        client.close()
    raise Damage(f"{number} messages of {size} octets did not fill the disk")


def verify(server, acknowledged, delete):
    """Every acknowledged message is there, whole, once, and nothing else. Deletes a share of them."""
    seen, removed = set(), set()
    for user in server.users:
        reader = Reader(server.address("pop3"), user, PASSWORD)
        remove = []
        for number, message in reader.messages():
            message = without_trace(message)
            found = load_identity(message)
            if found is None:
                raise Damage(f"{user}, message {number}: no id")
            identity, size = found
            if message != load_message(identity, size):
                raise Damage(f"{user}, message {number}: {identity.decode()} is not whole")
            if identity in seen:
                raise Damage(f"{identity.decode()} is there twice")
            seen.add(identity)
            if number % 10 < delete:
                remove.append(number)
                removed.add(identity)
        reader.delete(remove)
        reader.quit()
    lost, extra = acknowledged - seen, seen - acknowledged
    if lost or extra:
        raise Damage(f"{len(lost)} acknowledged messages lost, {len(extra)} there that were not acknowledged")
    acknowledged -= removed
    return len(seen), len(removed)


def fill(path):
    """Takes all that is left."""
    taken = 0
    with open(path, "wb", buffering=0) as file:
        block = b"\xaa" * 65536
        while block:
            try:
                taken += file.write(block)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                block = block[: len(block) // 2]
    return taken


def wait_for_service(server, seconds):
    """Until MAIL is taken again by the same process."""
    deadline = time.monotonic() + seconds
    while True:
        client = smtplib.SMTP(timeout=30)
        code, text = client.connect(*server.address("smtp"))
        if code == 220:
            client.ehlo(f"client.{DOMAIN}")
            code, text = client.mail("sender@else.test")
        client.close()
        if code == 250:
            return
        if time.monotonic() > deadline:
            raise Damage(f"after {seconds} s with space: {code} {text!r}")
        time.sleep(0.1)


def rounds(server, disk, arguments):
    acknowledged = set()
    # Given back in each round, because the log gives back nothing by itself before it is compacted.
    reserves = [disk / f"reserve{n}" for n in range(arguments.rounds)]
    for reserve in reserves:
        reserve.write_bytes(b"\x55" * ((arguments.mebibytes << 19) // arguments.rounds))
    server.start()
    for number in range(arguments.rounds):
        before = len(acknowledged)
        begun = time.monotonic()
        send_until_full(server, f"r{number}", arguments.size, acknowledged, 1_000_000)
        sent = len(acknowledged) - before
        if sent < 20:
            raise Damage(f"round {number + 1}: only {sent} messages were taken")
        filler = disk / "filler"
        taken = fill(filler)
        there, removed = verify(server, acknowledged, 5)
        verify(server, acknowledged, 0)
        filler.unlink()
        reserves[number].unlink()
        wait_for_service(server, 30)
        print(f"round {number + 1}: {sent} messages taken until 452 ({there} there, whole, once), {taken >> 10} KiB filled up, "
              f"{removed} deleted on the full disk, taken again without a restart; {time.monotonic() - begun:.1f} s", flush=True)
    verify(server, acknowledged, 0)
    server.stop()
    check = server.run("check", "--instance", server.instance, check=False)
    if check.returncode != 0:
        raise Damage(f"check: exit code {check.returncode}: {check.stdout.strip()} {check.stderr.strip()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mebibytes", type=int, default=64, help="of the disk")
    parser.add_argument("--size", type=int, default=8000, help="octets of a message")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = 1
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        skip("a disk of its own needs Linux and root")
    disk = pathlib.Path(tempfile.mkdtemp(prefix="posthouse-full-", dir="/var/tmp"))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={arguments.mebibytes}m,mode=0700", "posthouse-full", str(disk)],
                             stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if mounted.returncode != 0:
        disk.rmdir()
        skip(f"mount: {mounted.stderr.strip()}")
    begun, code, server = time.monotonic(), 0, None
    try:
        server = Server(users=USERS, listeners=("smtp", "pop3"), directory=disk / "server", tls=False)
        # The log of the program would need space too.
        log = tempfile.NamedTemporaryFile(prefix="posthouse-full-log-", dir="/var/tmp")
        server.log = pathlib.Path(log.name)
        rounds(server, disk, arguments)
        print(f"ok {arguments.rounds} rounds on {arguments.mebibytes} MiB in {time.monotonic() - begun:.0f} s")
    except Damage as damage:
        print(f"FAIL: {damage}\n{server.tail(20)}")
        code = 1
    finally:
        if server is not None:
            server.kill()
        subprocess.run(["umount", str(disk)], stdin=subprocess.DEVNULL, check=False)
        disk.rmdir()
    return code


if __name__ == "__main__":
    sys.exit(main())
