#!/usr/bin/env python3
"""Stands in for the `posthouse` program, to show that scripts/kill9.py notices a server that does wrong.

    faulty.py          runs the proof: the honest server passes, each faulty one is caught
    faulty.py serve..  is the server; FAULT says what it does wrong: none, lose, twice, damage, resurrect

It knows as much of the command line, SMTP and POP3 as that script uses. Messages are lines of JSON in one file.
"""

import json
import os
import pathlib
import random
import signal
import socketserver
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from sink import Handler

FAULT = os.environ.get("FAULT", "none")
TRACE = (b"Return-Path: <x@x.example>\r\nReceived: from x\r\n\tby mail.example.test (faulty) with ESMTP id 1;\r\n"
         b"\tMon, 01 Jan 2024 00:00:00 +0000\r\n")


class Mailboxes:
    """All mailboxes, and the file that they are read from after a crash."""

    def __init__(self, path):
        self.lock = threading.Lock()
        self.boxes, self.number = {}, 0
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            box = self.boxes.setdefault(entry["to"], {})
            if "deleted" in entry:
                if FAULT != "resurrect":
                    box.pop(entry["deleted"], None)
            else:
                box[entry["number"]] = entry["text"].encode("latin-1")
            self.number = max(self.number, entry.get("number", 0))
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, entry):
        os.write(self.file, (json.dumps(entry) + "\n").encode())

    def add(self, to, message):
        with self.lock:
            if FAULT == "damage" and random.random() < 0.01:
                message = message[:-40] + message[-38:]
            for _ in range(2 if FAULT == "twice" and random.random() < 0.01 else 1):
                self.number += 1
                self.boxes.setdefault(to, {})[self.number] = message
                if FAULT != "lose" or random.random() > 0.01:
                    self.write({"to": to, "number": self.number, "text": message.decode("latin-1")})

    def delete(self, to, numbers):
        with self.lock:
            for number in numbers:
                del self.boxes[to][number]
                self.write({"to": to, "deleted": number})


class Smtp(Handler):
    recipient = ""

    def keep(self, message):
        self.server.mailboxes.add(self.recipient, message)
        self.say(b"250 2.0.0 taken")
        return True

    def other(self, line):
        if line[:8].upper() == b"RCPT TO:":
            self.recipient = line[9:].partition(b">")[0].decode()
        self.say(b"250 2.0.0 ok")


class Pop3(socketserver.StreamRequestHandler):
    wbufsize = -1

    def handle(self):
        self.wfile.write(b"+OK\r\n")
        self.wfile.flush()
        numbers, deleted, box, user = [], [], {}, ""
        for line in self.rfile:
            word, _, argument = line.decode().strip().partition(" ")
            answer = b"+OK\r\n"
            if word == "USER":
                user = argument
            elif word == "PASS":
                box = dict(self.server.mailboxes.boxes.get(user, {}))
                numbers = sorted(box)
            elif word == "STAT":
                answer = b"+OK %d %d\r\n" % (len(box), sum(map(len, box.values())))
            elif word == "RETR":
                answer += TRACE + box[numbers[int(argument) - 1]].replace(b"\r\n.", b"\r\n..") + b".\r\n"
            elif word == "DELE":
                deleted.append(numbers[int(argument) - 1])
            elif word == "QUIT":
                self.server.mailboxes.delete(user, deleted)
            self.wfile.write(answer)
            self.wfile.flush()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


def program(arguments):
    if arguments[0] != "serve":
        instance = pathlib.Path(arguments[arguments.index("--instance") + 1])
        instance.mkdir(exist_ok=True)
        (instance / "posthouse.toml").touch()
        return 0
    mailboxes = Mailboxes(pathlib.Path(arguments[arguments.index("--instance") + 1]) / "mail")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    words = ["ready"]
    for name, handler in (("smtp", Smtp), ("pop3", Pop3)):
        server = Server(("127.0.0.1", 0), handler)
        server.mailboxes = mailboxes
        words.append("%s=%s:%d" % (name, *server.server_address))
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(" ".join(words), flush=True)
    threading.Event().wait()


def main():
    here = pathlib.Path(__file__).resolve()
    from server import program as path_of

    load = path_of("posthouse-load")
    for fault, word in (("none", "ok 2 rounds"), ("lose", "acknowledged messages lost"), ("twice", " twice"),
                        ("damage", "is not whole"), ("resurrect", " came back")):
        environment = {**os.environ, "POSTHOUSE": str(here), "POSTHOUSE_LOAD": load, "FAULT": fault}
        done = subprocess.run([sys.executable, str(here.parent.parent.parent / "scripts" / "kill9.py"), "--rounds", "2",
                               # Two rounds of small messages: with few large ones a fault has too little to strike at.
                               "--seed", "18"],
                              env=environment, capture_output=True, text=True, timeout=200)
        last = done.stdout.strip().splitlines()[-1]
        assert (done.returncode == 0) == (fault == "none") and word in last, f"{fault}: {done.stdout}{done.stderr}"
        print(f"ok {fault}: {last}", flush=True)


if __name__ == "__main__":
    sys.exit(program(sys.argv[1:]) if len(sys.argv) > 1 else main())
