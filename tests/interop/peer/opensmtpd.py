"""A throwaway OpenSMTPD: SMTP on a loopback port, mail for the local domains into a Maildir, the rest to a relay host.

As a server it has no TLS here: the OpenSMTPD 6.8 of Debian 12 keeps its key in a process of its own in a way that OpenSSL 3
does not know, and every handshake ends with `rsa routines::missing private key`. As a client it has.

It answers 250 before anything is on disk: a table that compares it must say so. Taken out of its Debian package, because
it excludes Postfix there; its spool directory and its control socket are built in.
"""

import os
import pathlib
import signal
import subprocess

from . import jail, mail

PACKAGES = ("opensmtpd",)

CONFIG = """\
smtp max-message-size 200M
{secrets}
listen on 127.0.0.1 port {port} hostname opensmtpd.example.test
action "local" maildir "{base}/maildir" user vmail virtual {{ "@" = vmail }}
action "relay" relay host "{relay}" {relay_options}
{matches}
match from any for any action "relay"
"""


def reason_to_skip():
    return jail.reason_to_skip() or (None if jail.unpack(*PACKAGES) else "OpenSMTPD's Debian package cannot be had")


class OpenSmtpd:
    name = "OpenSMTPD"
    durable = False

    def __init__(self, directory, port, domains=("opensmtpd.test",), relay=None, processes=200, hold=False, relay_tls=False,
                 relay_login=None):
        """As for Exim, without a certificate. `hold`: mail goes to a host that is not there, and waits."""
        self.base = pathlib.Path(directory)
        self.port = port
        self.address = ("127.0.0.1", port)
        self.base.mkdir(mode=0o755)
        root = jail.unpack(*PACKAGES)
        spool = self.base / "spool"
        for path in (spool, spool / "smtpd", self.base / "run", self.base / "lib", self.base / "lib" / "opensmtpd", self.base / "lib" / "opensmtpd" / "empty"):
            path.mkdir(mode=0o711)
        self.maildir = self.base / "maildir"
        self.maildir.mkdir(mode=0o700)
        os.chown(self.maildir, jail.user_id("vmail"), jail.group_id("vmail"))
        secrets, options = "", ""
        host, relay_port = relay or ("127.0.0.1", 1)
        scheme = "smtp+tls" if relay_tls else "smtp"
        where = f"{scheme}://{host}:{relay_port}"
        if relay_login:
            (self.base / "secrets").write_text(f"there {relay_login[0]}:{relay_login[1]}\n")
            secrets = f'table secrets file:{self.base}/secrets'
            where = f"{scheme}://there@{host}:{relay_port}"
            options = "auth <secrets>"
        if relay_tls:
            options += " tls no-verify"
        matches = "" if hold else "\n".join(f'match from any for domain "{domain}" action "local"' for domain in domains)
        config = self.base / "smtpd.conf"
        config.write_text(CONFIG.format(secrets=secrets, port=port, base=self.base, relay=where, relay_options=options, matches=matches))
        config.chmod(0o600)
        self.command = jail.command(self.base, [root / "usr/sbin/smtpd", "-F", "-f", config], {
            "/var/spool": spool, "/var/lib": self.base / "lib", "/run": self.base / "run", "/usr/libexec": root / "usr/libexec"})
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        return mail.launch(self)

    def trouble(self):
        return mail.tails(self.base / "stderr")

    def messages(self):
        return mail.read_maildir(self.maildir)

    def count(self):
        return mail.count_maildir(self.maildir)

    def clean(self):
        mail.empty(self.maildir / "new")
        # What it holds in memory it has forgotten when it is started again.

    def stop(self):
        mail.end(self.process, signal.SIGTERM)
        self.process = None
