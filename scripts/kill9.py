#!/usr/bin/env python3
"""Kills the server with SIGKILL at random moments under load, and proves that nothing acknowledged is lost.

Each round: 64 connections send as fast as they can, in every other round while space is given back (`posthouse
compact`); at a random moment the server is killed; it starts again and
every mailbox is read over POP3. Then every message whose 250 was seen must be there, once, and every message that
is there must be whole, octet by octet: also those whose 250 was lost with the connection. A sample stays in the
mailboxes for all later rounds, the rest is deleted, and what was deleted must not come back. Every third round
the server is killed once more while it starts and recovers.

The seed is printed; --seed repeats the moments (not the scheduling of the machine).
"""

import argparse
import collections
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "interop"))
from message import load_identity, load_message, without_trace
from pop import Reader
from server import DOMAIN, PASSWORD, Server, program

USERS = 4
KEPT = 200


class Damage(Exception):
    pass


def read_all(server, kept, deleted, number_of_round):
    """Reads every mailbox; returns how often each id is there. Deletes most, keeps a sample."""
    seen = collections.Counter()
    for user in server.users:
        reader = Reader(server.address("pop3"), user, PASSWORD)
        remove = []
        for number, message in reader.messages():
            where = f"{user}, message {number}"
            try:
                message = without_trace(message)
            except ValueError as error:
                raise Damage(f"{where}: {error}") from None
            found = load_identity(message)
            if found is None:
                raise Damage(f"{where}: no id in {message[:100]!r}")
            identity, size = found
            if message != load_message(identity, size):
                raise Damage(f"{where}: {identity.decode()} is not whole: {len(message)} octets of {size}")
            seen[identity] += 1
            if identity in kept:
                continue
            if len(kept) < KEPT * (1 + number_of_round) and random.random() < 0.2:
                kept.add(identity)
            else:
                remove.append((number, identity))
        reader.delete(number for number, _ in remove)
        reader.quit()
        deleted.update(identity for _, identity in remove)
    return seen


def round_of(server, number, connections, seed_random, record, kept, deleted, totals):
    # The last goes to the lane of large bodies.
    size = seed_random.choice((300, 4096, 4096, 40_000, 400_000))
    mode = seed_random.choice(("grouped", "grouped", "bdat"))
    wait = seed_random.uniform(0.02, 0.7)
    run = f"{seed_random.getrandbits(32):08x}"
    record.write_bytes(b"")
    load = subprocess.Popen(
        [program("posthouse-load"), "--target", "%s:%d" % server.address("smtp"), "--connections", str(connections), "--seconds", "30",
         "--size", str(size), "--mode", mode, "--users", str(USERS), "--domain", DOMAIN, "--run", run, "--timeout", "20",
         "--record", str(record)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 20
    while record.stat().st_size == 0:
        if time.monotonic() > deadline or load.poll() is not None:
            output = load.communicate(timeout=30)[0]
            raise Damage(f"no message was acknowledged: {output.strip()}")
        time.sleep(0.005)
    compaction = None
    if number % 2:
        compaction = subprocess.Popen([program(), "compact", "--instance", str(server.instance)], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(wait)
    server.kill()
    if compaction:
        compaction.wait(timeout=60)
    line = json.loads(load.communicate(timeout=60)[0])
    acknowledged = record.read_bytes().split()
    if len(acknowledged) != line["messages"] or len(set(acknowledged)) != len(acknowledged):
        raise Damage(f"the record has {len(acknowledged)} ids, {line['messages']} were acknowledged")
    if number % 3 == 2:
        # A crash during recovery. It may be ready already; that does not matter.
        started = subprocess.Popen([program(), "serve", "--instance", str(server.instance)], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seed_random.uniform(0.0, 0.15))
        started.kill()
        started.wait()
    begun = time.monotonic()
    server.start()
    recovery = time.monotonic() - begun
    before = set(kept)
    gone = set(deleted)
    seen = read_all(server, kept, deleted, number)
    lost = [identity for identity in acknowledged if seen[identity] == 0]
    lost += [identity for identity in before if seen[identity] == 0]
    twice = [identity for identity, times in seen.items() if times > 1]
    back = [identity for identity in seen if identity in gone]
    if lost or twice or back:
        example = (lost + twice + back)[0].decode()
        raise Damage(f"{len(lost)} acknowledged messages lost, {len(twice)} twice, {len(back)} came back, such as {example}")
    extra = len(seen) - len(acknowledged) - len(before)
    totals["acknowledged"] += len(acknowledged)
    totals["unknown"] += line["unknown"]
    totals["unknown, and there"] += extra
    if extra > line["unknown"]:
        raise Damage(f"{extra} messages that were not acknowledged are there, {line['unknown']} were under way")
    print(f"round {number + 1}: killed {wait:.3f} s after the first 250 ({mode}, {size} octets): {len(acknowledged)} acknowledged, "
          f"all there, whole, once; {line['unknown']} without a reply, {extra} of them there; ready again in {recovery:.2f} s",
          flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--keep", action="store_true", help="leave the instance when something is wrong")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    seed_random = random.Random(arguments.seed)
    random.seed(arguments.seed)
    # Not /tmp: it may be memory, where a crash proves nothing.
    base = pathlib.Path(tempfile.mkdtemp(prefix="posthouse-kill9-", dir="/var/tmp"))
    server = Server(users=USERS, listeners=("smtp", "pop3"), directory=base, tls=False)
    server.own = True
    kept, deleted, totals = set(), set(), collections.Counter()
    begun = time.monotonic()
    try:
        for number in range(arguments.rounds):
            if server.process is None:
                server.start()
            round_of(server, number, arguments.connections, seed_random, base / "acknowledged", kept, deleted, totals)
        server.stop()
        check = server.run("check", "--instance", server.instance, check=False)
        if check.returncode != 0:
            raise Damage(f"check: exit code {check.returncode}: {check.stdout.strip()} {check.stderr.strip()}")
    except Damage as damage:
        server.kill()
        print(f"FAIL: {damage} (seed {arguments.seed})")
        if arguments.keep:
            print(f"the instance is in {base}")
        else:
            server.remove()
        return 1
    server.remove()
    print(f"ok {arguments.rounds} rounds in {time.monotonic() - begun:.0f} s: {totals['acknowledged']} acknowledged messages, 0 lost, "
          f"0 twice, 0 damaged; {totals['unknown']} without a reply, {totals['unknown, and there']} of them there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
