"""Logging in with foreign clients: smtplib's PLAIN, LOGIN and CRAM-MD5, poplib, and SCRAM-SHA-256 written here with hashlib
(RFC 5802 5, RFC 7677), over SMTP and POP3, in the clear (loopback) and under TLS.

Also: an account of an instance whose password was set before CRAM-MD5 was asked for cannot use it, one with a password
set since can; a name that nobody has is answered as one with a wrong password is, with a salt that stays the same after
a restart.
"""

import base64
import hashlib
import hmac
import os
import poplib
import smtplib
import ssl

from server import DOMAIN, PASSWORD, Server

ALL = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5"]
UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname = False
UNVERIFIED.verify_mode = ssl.CERT_NONE


class Scram:
    """A client of SCRAM-SHA-256 that takes and gives messages in clear."""

    def __init__(self, user, password, flag="n"):
        self.password = password.encode()
        self.header = f"{flag},,"
        self.nonce = base64.b64encode(os.urandom(18)).decode()
        self.bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={self.nonce}"
        self.parts = {}

    def first(self):
        return self.header + self.bare

    def last(self, server):
        self.parts = dict(part.split("=", 1) for part in server.split(","))
        assert self.parts["r"].startswith(self.nonce) and len(self.parts["r"]) > len(self.nonce), server
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(self.parts["s"]), int(self.parts["i"]))
        client = hmac.digest(salted, b"Client Key", "sha256")
        unsigned = f"c={base64.b64encode(self.header.encode()).decode()},r={self.parts['r']}"
        message = f"{self.bare},{server},{unsigned}".encode()
        signature = hmac.digest(hashlib.sha256(client).digest(), message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client, signature))
        self.signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        return f"{unsigned},p={base64.b64encode(proof).decode()}"

    def verify(self, server):
        assert server == "v=" + base64.b64encode(self.signature).decode(), server


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def smtp(server, tls):
    client = smtplib.SMTP(*server.address("submission"), timeout=60)
    if tls:
        client.starttls(context=UNVERIFIED)
    client.ehlo()
    return client


def smtp_scram(client, scram):
    """The last code; the server's signature is verified when there is one."""
    code, text = client.docmd("AUTH", f"SCRAM-SHA-256 {encoded(scram.first())}")
    if code == 334:
        code, text = client.docmd(scram_step(scram.last, text))
    if code == 334:
        scram.verify(base64.b64decode(text).decode())
        code, text = client.docmd("")
    return code, text


def scram_step(step, text):
    return encoded(step(base64.b64decode(text).decode()))


def pop_scram(client, scram):
    def turn(line):
        return client._shortcmd(line)[2:].decode()

    text = turn(f"AUTH SCRAM-SHA-256 {encoded(scram.first())}")
    scram.verify(base64.b64decode(turn(scram_step(scram.last, text))).decode())
    assert client._shortcmd("").startswith(b"+OK")


def smtplib_login(client, mechanism, user, password):
    client.user, client.password = user, password
    function = getattr(client, "auth_" + mechanism.lower().replace("-", "_"))
    # LOGIN answers its prompts, the others begin where they may.
    return client.auth(mechanism, function)[0]


def refused(call):
    try:
        call()
    except smtplib.SMTPAuthenticationError as error:
        assert error.smtp_code == 535, error
        return
    raise AssertionError("a login that should have failed")


def every_way(server, user):
    for tls in (False, True):
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
            with smtp(server, tls) as client:
                offered = client.esmtp_features["auth"].split()
                assert offered == ALL[0 if tls else 1:], offered
                assert smtplib_login(client, mechanism, user, PASSWORD) == 235
            with smtp(server, tls) as client:
                refused(lambda: smtplib_login(client, mechanism, user, "wrong password"))
                refused(lambda: smtplib_login(client, mechanism, f"nobody@{DOMAIN}", PASSWORD))
        with smtp(server, tls) as client:
            # smtplib believes that one success is enough; a client under TLS that could bind says `y` and is refused.
            assert smtp_scram(client, Scram(user, "wrong password"))[0] == 535
            if tls:
                assert smtp_scram(client, Scram(user, PASSWORD, flag="y"))[0] == 535
            assert smtp_scram(client, Scram(user, PASSWORD))[0] == 235
            client.sendmail(user, [user], f"From: {user}\r\n\r\nsent after a login by SCRAM\r\n")

    client = poplib.POP3(*server.address("pop3"), timeout=60)
    assert set(client.capa()["SASL"]) == set(ALL[1:]), client.capa()
    pop_scram(client, Scram(user, PASSWORD))
    assert client.stat()[0] == 2
    client.quit()
    client = poplib.POP3(*server.address("pop3"), timeout=60)
    client.stls(context=UNVERIFIED)
    assert set(client.capa()["SASL"]) == set(ALL), client.capa()
    pop_scram(client, Scram(user, PASSWORD))
    client.quit()


def salt(server, user):
    with smtp(server, False) as client:
        scram = Scram(user, "wrong password")
        code, text = smtp_scram(client, scram)
        assert (code, text) == (535, b"5.7.8 Wrong login name or password"), (code, text)
        return scram.parts["s"], scram.parts["i"]


def main():
    names = ", ".join(f'"{name}"' for name in ALL)
    server = Server(users=1)
    before = server.users[0]
    server.configure("auth.mechanisms", f"[{names}]")
    with server:
        with smtp(server, False) as client:
            refused(lambda: smtplib_login(client, "CRAM-MD5", before, PASSWORD))
        real = salt(server, before)
        unknown = [salt(server, f"nobody{n}@{DOMAIN}") for n in range(2)]
        assert unknown[0] != unknown[1], "one salt for all unknown names"
        assert {len(text) for text, _ in unknown} == {len(real[0])}
        assert {count for _, count in unknown} == {real[1]}
        server.run("account", "set-password", "--instance", server.instance, "--address", before, "--password-file", server.password_file)
        assert salt(server, before) == real, "a salt that changes tells that somebody has the name"
        every_way(server, before)
        server.stop()
        server.start()
        assert salt(server, f"nobody0@{DOMAIN}") == unknown[0], "a restart tells who exists"
    print("logged in by every mechanism")


if __name__ == "__main__":
    main()
