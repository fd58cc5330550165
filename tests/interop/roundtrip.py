"""Messages through an example mail server: smtplib sends some, the server's own submission sends the same again, poplib
reads all of them back, and every octet is as it was.

    roundtrip.py --command PROGRAM [ARGUMENT...]

The program prints `ready smtp=ADDRESS pop3=ADDRESS`, takes names of message files on its standard input, answers each
with `submitted ID`, and ends when its input ends. The account is user1@example.test.
"""

import argparse
import pathlib
import poplib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import corpus
from message import delivered, without_trace

LOGIN = "user1@example.test"
PASSWORD = "correct horse"


class Example:
    """The program, with the addresses that it said."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = self.process.stdout.readline().split()
        if ready[:1] != ["ready"]:
            raise SystemExit(f"{command[0]} said {ready} and not ready")
        self.listeners = dict(word.split("=", 1) for word in ready[1:])

    def address(self, name):
        host, port = self.listeners[name].rsplit(":", 1)
        return host, int(port)

    def submit(self, path):
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer.startswith("submitted "):
            raise SystemExit(f"{path}: {answer.strip()}")

    def end(self):
        self.process.stdin.close()
        return self.process.wait(timeout=60)


def read_all(example, expected):
    """Reads as many messages as are expected, checks each, and removes it."""
    host, port = example.address("pop3")
    client = poplib.POP3(host, port, timeout=60)
    client.user(LOGIN)
    client.pass_(PASSWORD)
    count, _ = client.stat()
    assert count == len(expected), f"{len(expected)} sent, {count} in the mailbox"
    for number, (name, sent) in enumerate(expected, 1):
        got = corpus.retrieve(client, number)
        if name.startswith("submitted"):
            # Whoever submits has no connection: the Received field says `with local`.
            rest = without_local_trace(got)
        else:
            rest = without_trace(got)
            sent = delivered(sent)
        assert rest == sent, f"{name}: {len(sent)} octets sent, {len(rest)} came back"
        client.dele(number)
    client.quit()


def without_local_trace(message):
    lines = message.split(b"\r\n")
    assert lines[0].startswith(b"Return-Path: <"), lines[0]
    assert lines[1].startswith(b"Received: "), lines[1]
    end = 2
    while end < len(lines) and lines[end][:1] in (b" ", b"\t"):
        end += 1
    field = b" ".join(line.strip() for line in lines[1:end])
    assert b" by mail.example.test " in field and b" with local " in field, field
    return b"\r\n".join(lines[end:])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true", help="every message of the corpus, up to 25 MiB")
    parser.add_argument("--command", nargs=argparse.REMAINDER, required=True)
    arguments = parser.parse_args()
    messages = corpus.generated_messages() + (corpus.cpython_messages() or [])
    if not arguments.full:
        messages = [pair for pair in messages if len(pair[1]) < 300_000]
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        command = [*arguments.command, str(directory / "instance")]
        example = Example(command)
        expected = []
        client = corpus.smtp(example)
        for name, message in messages:
            options = ["BODY=8BITMIME"] if any(octet > 0x7F for octet in message) else []
            assert not client.sendmail("sender@sender.example", [LOGIN], message, mail_options=options)
            expected.append((name, message))
        client.quit()
        # SMTP ends every line, submission takes what is there: also nothing, and half a line.
        as_they_are = [("nothing", b""), ("half a line", b"Subject: x\r\n\r\nhalf")]
        for number, (name, message) in enumerate(messages + as_they_are):
            path = directory / f"{number}.eml"
            path.write_bytes(message)
            example.submit(path)
            # A POP3 client gets whole lines (RFC 1939 3).
            whole = message if message.endswith(b"\r\n") or not message else message + b"\r\n"
            expected.append((f"submitted {name}", whole))
        read_all(example, expected)
        # The next life of the instance: what was removed is gone, what is sent then is there.
        assert example.end() == 0, "the example ended with an error"
        example = Example(command)
        read_all(example, [])
        example.submit(directory / "0.eml")
        read_all(example, [(f"submitted {messages[0][0]}", messages[0][1])])
        assert example.end() == 0, "the example ended with an error"
    print(f"ok {len(messages)} messages by smtplib and by ph_engine_submit, through {pathlib.Path(arguments.command[0]).name}")


if __name__ == "__main__":
    main()
