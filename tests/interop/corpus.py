"""Mail goes in by foreign clients and comes out by foreign clients with every octet as it was.

Messages: every file of CPython's own e-mail tests, and generated ones from nothing to 25 MiB. Ways in: smtplib in
clear, over STARTTLS, with AUTH by submission, over implicit TLS; swaks; curl; bare sockets where the clients do too
much for us. Ways out: poplib in clear, after STLS and over implicit TLS; curl. The engine adds Return-Path and
Received at the very front (RFC 5321 4.4), which is checked and taken off; nothing else may differ.
"""

import importlib
import pathlib
import poplib
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from message import delivered, without_trace
from server import DOMAIN, PASSWORD, Server, skip

USER = f"user1@{DOMAIN}"
SENDER = "sender@sender.example"
# poplib refuses lines over 2,048 octets, a bound of its own (RFC 1939 has none); ours go to 1 MiB.
poplib._MAXLINE = 64 << 20


def unverified():
    """The test's certificate is signed by nobody."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def canonical(text):
    """Line ends as mail has them, the last line ended (SMTP cannot say otherwise, RFC 5321 4.1.1.4)."""
    text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return text if text.endswith(b"\r\n") else text + b"\r\n"


def cpython_messages():
    directories = []
    for name in ("test.test_email", "test.test_email.data"):
        try:
            module = importlib.import_module(name)
            directories += [pathlib.Path(path) for path in module.__path__]
        except ImportError:
            pass
    # Debian keeps the module in a package of its own; another interpreter of this machine may have it as well.
    directories += sorted(pathlib.Path("/usr/lib").glob("python3*/test/test_email"))
    directories += sorted(pathlib.Path.home().glob(".pyenv/versions/*/lib/python3*/test/test_email"))
    for directory in directories:
        data = directory if directory.name == "data" else directory / "data"
        files = sorted(data.glob("*.txt"))
        if files:
            return [(f"cpython {file.name}", canonical(file.read_bytes())) for file in files]
    return None


def generated_messages():
    head = b"Subject: generated\r\n\r\n"
    long_line = b"0123456789abcdef" * (1 << 16)
    return [
        ("one octet", canonical(b"x")),
        ("an empty line", b"\r\n"),
        ("header without body", b"Subject: nothing more\r\n"),
        ("header, separator, no body", head),
        ("body without header", b"\r\nonly a body\r\n"),
        ("no final newline", canonical(head + b"the last line")),
        ("one dot", head + b".\r\n"),
        ("only dots", b".\r\n..\r\n...\r\n.\r\n"),
        ("dots at line starts", head + b".a\r\n..b\r\n...c\r\n.\r\n.\r\n.d.\r\n"),
        ("dots everywhere", head + b"." * 5000 + b"\r\n" + b".\r\n" * 5000),
        ("8-bit", head + bytes(range(0x80, 0x100)) + b"\r\n" + "Grüße, 漢字\r\n".encode()),
        ("control characters", head + bytes(octet for octet in range(1, 32) if octet not in (10, 13)) + b"\r\n"),
        ("looks like commands", head + b"QUIT\r\nRSET\r\nMAIL FROM:<a@b.example>\r\nDATA\r\n+OK\r\n-ERR\r\n"),
        ("line of 998", head + b"y" * 998 + b"\r\n"),
        ("lines around buffer sizes", head + b"".join(b"z" * n + b"\r\n" for n in (4094, 4095, 4096, 8191, 16382, 65535))),
        ("line of 1 MiB", head + long_line + b"\r\n"),
        ("10,000 lines", head + b"".join(b"line %05d\r\n" % n for n in range(10_000))),
        ("100,000 empty lines", head + b"\r\n" * 100_000),
        ("header of 200 KiB", b"".join(b"X-%04d: %s\r\n" % (n, b"v" * 60) for n in range(3000)) + b"\r\nbody\r\n"),
        ("already has trace headers", b"Return-Path: <old@x.example>\r\nReceived: from a by b; x\r\n" + head + b"kept\r\n"),
        ("1 MiB", head + b"".join(b"%07d %s\r\n" % (n, b"m" * 54) for n in range(1 << 14))),
        ("25 MiB", head + b"".join(b"%07d %s\r\n" % (n, b"M" * 54) for n in range(25 << 14))),
    ]


def smtp(server, name="smtp", starttls=False, implicit=False, login=False):
    host, port = server.address(name)
    if implicit:
        client = smtplib.SMTP_SSL(host, port, timeout=60, context=unverified(), local_hostname="client.example")
    else:
        client = smtplib.SMTP(host, port, timeout=60, local_hostname="client.example")
    if starttls:
        client.starttls(context=unverified())
    if login:
        client.login(USER, PASSWORD)
    return client


def pop(server, stls=False, implicit=False):
    name = "pop3s" if implicit else "pop3"
    host, port = server.address(name)
    if implicit:
        client = poplib.POP3_SSL(host, port, timeout=60, context=unverified())
    else:
        client = poplib.POP3(host, port, timeout=60)
    if stls:
        client.stls(context=unverified())
    client.user(USER)
    client.pass_(PASSWORD)
    return client


def send(client, message):
    options = ["BODY=8BITMIME"] if any(octet > 0x7F for octet in message) else []
    refused = client.sendmail(SENDER, [USER], message, mail_options=options)
    assert not refused, refused


def retrieve(client, number):
    _, lines, _ = client.retr(number)
    return b"".join(line + b"\r\n" for line in lines)


def compare(name, sent, got, keyword):
    sent = delivered(sent)
    try:
        rest = without_trace(got, keyword)
    except ValueError as error:
        raise AssertionError(f"{name}: {error}") from None
    if rest != sent:
        at = next((n for n, (a, b) in enumerate(zip(rest, sent)) if a != b), min(len(rest), len(sent)))
        raise AssertionError(
            f"{name}: {len(sent)} octets sent, {len(rest)} came back, first difference at {at}: "
            f"sent {sent[at - 10 if at > 10 else 0:at + 30]!r}, got {rest[at - 10 if at > 10 else 0:at + 30]!r}"
        )


def round_trip(server, messages, sender, reader, keyword):
    """Sends all, reads all, compares, and leaves the mailbox empty. `reader` is made when all is there."""
    for _, message in messages:
        send(sender, message)
    sender.quit()
    reader = reader()
    count, octets = reader.stat()
    assert count == len(messages), f"{len(messages)} sent, {count} in the mailbox"
    sizes = [int(line.split()[1]) for line in reader.list()[1]]
    uids = [line.split()[1] for line in reader.uidl()[1]]
    assert len(set(uids)) == count, "UIDL repeats"
    total = 0
    for number, (name, message) in enumerate(messages, 1):
        got = retrieve(reader, number)
        assert len(got) == sizes[number - 1], f"{name}: LIST says {sizes[number - 1]} octets, RETR gave {len(got)}"
        total += len(got)
        compare(name, message, got, keyword)
        reader.dele(number)
    assert total == octets, f"STAT says {octets} octets, RETR gave {total}"
    reader.quit()
    print(f"ok {len(messages)} messages, {total} octets, with {keyword}", flush=True)


def message_of_no_octets(server):
    """smtplib always sends a line end; DATA with the dot at once, and BDAT 0 LAST, do not."""
    for command, reply in ((b"DATA\r\n", b"354"), (b"BDAT 0 LAST\r\n", b"250")):
        with socket.create_connection(server.address("smtp"), timeout=30) as connection:
            stream = connection.makefile("rwb")

            def say(line, expected):
                stream.write(line)
                stream.flush()
                while (answer := stream.readline())[3:4] == b"-":
                    pass
                assert answer.startswith(expected), (line, answer)

            say(b"", b"220")
            say(b"EHLO client.example\r\n", b"250")
            say(b"MAIL FROM:<>\r\n", b"250")
            say(f"RCPT TO:<{USER}>\r\n".encode(), b"250")
            say(command, reply)
            if reply == b"354":
                say(b".\r\n", b"250")
            say(b"QUIT\r\n", b"221")
    client = pop(server)
    assert client.stat()[0] == 2
    for number in (1, 2):
        compare("no octets", b"", retrieve(client, number), "ESMTP")
        client.dele(number)
    client.quit()
    print("ok message of no octets, by DATA and by BDAT, from the null reverse-path", flush=True)


def has_header(message):
    """Whether it begins with header fields and nothing else up to the first empty line. Submission puts that line where it lacks."""
    lines = message.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return all(re.match(rb"[!-9;-~]+[ \t]*:|[ \t]|\Z", line) for line in lines) and not message[:1] in (b" ", b"\t")


def lacks_nothing(message):
    """With the fields that submission would add in front, and none that it would take out (RFC 6409 8)."""
    head = message.partition(b"\r\n\r\n")[0].lower()
    for field, value in ((b"Date", b"Sat, 21 Nov 2026 10:00:00 +0000"), (b"Message-ID", b"<corpus@sender.example>")):
        if not re.search(rb"(?m)^%s[ \t]*:" % field.lower(), head):
            message = field + b": " + value + b"\r\n" + message
    return re.sub(rb"(?im)^((?:resent-)?)bcc:", rb"\1Cc:", message)


def nul_is_refused(server):
    for name, message in (
        ("in the body", b"Subject: x\r\n\r\nbefore\0after\r\n"),
        ("in the header", b"Subject: \0\r\n\r\nbody\r\n"),
        ("at the end of 1 MiB", b"Subject: x\r\n\r\n" + b"0123456789abcd\r\n" * (1 << 16) + b"\0\r\n"),
    ):
        client = smtp(server)
        try:
            send(client, message)
        except smtplib.SMTPDataError as error:
            assert 500 <= error.smtp_code < 600, error
        else:
            raise AssertionError(f"NUL {name} was accepted")
        # The session goes on.
        assert client.noop()[0] == 250
        client.quit()
    client = pop(server)
    assert client.stat() == (0, 0), f"something of a refused message was stored: {client.stat()}"
    client.quit()
    print("ok NUL is refused and nothing of it is stored", flush=True)


def unknown_recipients_and_relaying_are_refused(server):
    client = smtp(server)
    client.ehlo()
    client.mail(SENDER)
    for recipient in (f"nobody-here@{DOMAIN}", "somebody@elsewhere.example"):
        code, text = client.rcpt(recipient)
        assert code == 550, (recipient, code, text)
    client.quit()
    print("ok unknown recipients and relaying are refused", flush=True)


def foreign_clients(server):
    chosen = [(name, lacks_nothing(message)) for name, message in generated_messages() if name in
              ("dots at line starts", "8-bit", "10,000 lines", "line of 998", "1 MiB")]
    with tempfile.TemporaryDirectory() as directory:
        ways = []
        if shutil.which("swaks"):
            ways.append(("swaks", "ESMTP", lambda file: [
                "swaks", "--silent", "2", "--server", "%s:%d" % server.address("smtp"), "--helo", "client.example",
                "--from", SENDER, "--to", USER, "--data", f"@{file}"]))
            tls = "=== TLS supported" in subprocess.run(["swaks", "--support"], capture_output=True, text=True).stdout
            for mechanism in ("PLAIN", "LOGIN"):
                ways.append((f"swaks with AUTH {mechanism}", "ESMTPSA" if tls else "ESMTPA", lambda file, mechanism=mechanism: [
                    "swaks", "--silent", "2", "--server", "%s:%d" % server.address("submission"), "--helo", "client.example",
                    *(["--tls"] if tls else []), "--auth", mechanism, "--auth-user", USER, "--auth-password", PASSWORD,
                    "--from", SENDER, "--to", USER, "--data", f"@{file}"]))
        if shutil.which("curl"):
            ways.append(("curl", "ESMTP", lambda file: [
                "curl", "--silent", "--show-error", "smtp://%s:%d/client.example" % server.address("smtp"),
                "--mail-from", SENDER, "--mail-rcpt", USER, "--upload-file", str(file)]))
            ways.append(("curl with TLS and AUTH", "ESMTPSA", lambda file: [
                "curl", "--silent", "--show-error", "--insecure", "--ssl-reqd", "--user", f"{USER}:{PASSWORD}",
                "smtp://%s:%d/client.example" % server.address("submission"),
                "--mail-from", SENDER, "--mail-rcpt", USER, "--upload-file", str(file)]))
        missing = [name for name in ("swaks", "curl") if not shutil.which(name)]
        for name, keyword, command in ways:
            # swaks ends the last line itself, so its file does not.
            for _, message in chosen:
                file = pathlib.Path(directory) / "message"
                file.write_bytes(message[:-2] if name.startswith("swaks") else message)
                done = subprocess.run(command(file), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
                assert done.returncode == 0, f"{name}: exit code {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}"
            client = pop(server)
            assert client.stat()[0] == len(chosen), f"{name}: {client.stat()[0]} of {len(chosen)} arrived"
            for number, (title, message) in enumerate(chosen, 1):
                compare(f"{name}: {title}", message, retrieve(client, number), keyword)
                if name == "curl":
                    host, port = server.address("pop3")
                    client.quit()
                    got = subprocess.run(
                        ["curl", "--silent", "--show-error", "--insecure", "--ssl-reqd", "--user", f"{USER}:{PASSWORD}",
                         f"pop3://{host}:{port}/{number}"], capture_output=True, timeout=60, check=True).stdout
                    compare(f"read by curl: {title}", message, got, keyword)
                    client = pop(server)
            for number in range(1, len(chosen) + 1):
                client.dele(number)
            client.quit()
            print(f"ok {len(chosen)} messages by {name}", flush=True)
    return missing


def main():
    # 0.5 s a login: the messages go in few sessions.
    listeners = ("smtp", "smtps", "submission", "submissions", "pop3", "pop3s")
    # Any sender: the messages are not from the user.
    with Server(users=1, listeners=listeners, settings={"submission.sender_rights": '"login"'}) as server:
        corpus = cpython_messages()
        generated = generated_messages()
        small = [pair for pair in generated if len(pair[1]) < 2 << 20]
        round_trip(server, generated, smtp(server), lambda: pop(server), "ESMTP")
        nul_is_refused(server)
        message_of_no_octets(server)
        unknown_recipients_and_relaying_are_refused(server)
        every = (corpus or []) + small
        whole = [(name, lacks_nothing(message)) for name, message in every if has_header(message)]
        round_trip(server, every, smtp(server), lambda: pop(server), "ESMTP")
        round_trip(server, every, smtp(server, starttls=True), lambda: pop(server, stls=True), "ESMTPS")
        round_trip(server, every, smtp(server, "smtps", implicit=True), lambda: pop(server, implicit=True), "ESMTPS")
        round_trip(server, whole, smtp(server, "submission", starttls=True, login=True), lambda: pop(server), "ESMTPSA")
        round_trip(server, whole, smtp(server, "submissions", implicit=True, login=True), lambda: pop(server), "ESMTPSA")
        round_trip(server, whole, smtp(server, "submission", login=True), lambda: pop(server), "ESMTPA")
        round_trip(server, generated[-1:], smtp(server, starttls=True), lambda: pop(server, stls=True), "ESMTPS")
        missing = foreign_clients(server)
        # What was deleted stays deleted, and what the engine keeps is in order, after a restart as well.
        server.stop()
        print(server.run("check", "--instance", server.instance).strip().splitlines()[-1:], flush=True)
        server.start()
        client = pop(server)
        assert client.stat() == (0, 0), client.stat()
        client.quit()
    if corpus is None:
        skip("CPython's test_email is not on this machine (Debian: libpython3.11-testsuite or the like)")
    print(f"ok {len(corpus)} files of CPython's test_email, each by six ways in", flush=True)
    if missing:
        skip(f"not installed: {', '.join(missing)}")


if __name__ == "__main__":
    main()
