"""A throwaway Dovecot: LMTP into Maildirs, submission with AUTH that relays, and its SASL socket for Postfix.

Users are whoever logs in with the password `secret`, and every recipient of the domain.
"""

import os
import pathlib
import shutil
import signal

from . import jail, mail

CONFIG = """\
base_dir = {base}/run
state_dir = {base}/state
log_path = {base}/log
protocols = lmtp submission
listen = 127.0.0.1
ssl = {ssl}
{certificate}
auth_mechanisms = plain login
disable_plaintext_auth = no
default_internal_user = {internal}
default_internal_group = {internal}
default_login_user = {login}
default_process_limit = {processes}
default_client_limit = 4000
mail_location = maildir:{base}/mail/%n
first_valid_uid = 1
mailbox_list_index = no
mail_fsync = always
hostname = dovecot.example.test
postmaster_address = postmaster@dovecot.test
lda_mailbox_autocreate = yes
lmtp_save_to_detail_mailbox = no
recipient_delimiter =
submission_relay_host = {relay}
submission_relay_port = {relay_port}
submission_relay_trusted = no
submission_max_mail_size = 200M
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid=vmail gid=vmail home={base}/mail/%n allow_all_users=yes
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
  unix_listener {base}/lmtp {{
    mode = 0666
  }}
  process_limit = {processes}
}}
service submission-login {{
  inet_listener submission {{
    address = 127.0.0.1
    port = {submission_port}
  }}
  process_limit = {processes}
}}
service auth {{
  unix_listener {base}/auth {{
    mode = 0666
  }}
}}
service anvil {{
  client_limit = 5000
}}
"""


def reason_to_skip():
    if shutil.which("dovecot", path=os.environ.get("PATH", "") + ":/usr/sbin") is None:
        return "Dovecot is not installed"
    for protocol in ("lmtp", "submission"):
        if not os.path.exists(f"/usr/lib/dovecot/{protocol}"):
            return f"Dovecot's {protocol} is not installed"
    return jail.reason_to_skip()


class Dovecot:
    name = "Dovecot"
    durable = True

    def __init__(self, directory, port, submission_port, relay=None, processes=100, certificate=None):
        """LMTP on `port` and on the socket `lmtp`; `relay`: (host, port) for what is submitted."""
        self.base = pathlib.Path(directory)
        self.address = ("127.0.0.1", port)
        self.submission = ("127.0.0.1", submission_port)
        self.base.mkdir(mode=0o755)
        for name in ("run", "state"):
            (self.base / name).mkdir(mode=0o755)
        self.mail = self.base / "mail"
        self.mail.mkdir(mode=0o700)
        os.chown(self.mail, jail.user_id("vmail"), jail.group_id("vmail"))
        self.auth_socket = self.base / "auth"
        self.lmtp_socket = self.base / "lmtp"
        host, relay_port = relay or ("127.0.0.1", 1)
        config = self.base / "dovecot.conf"
        config.write_text(CONFIG.format(
            base=self.base, port=port, submission_port=submission_port, relay=host, relay_port=relay_port, processes=processes,
            internal="dovecot", login="dovenull", ssl="yes" if certificate else "no",
            certificate=f"ssl_cert = <{certificate[0]}\nssl_key = <{certificate[1]}" if certificate else ""))
        self.command = jail.command(self.base, ["/usr/sbin/dovecot", "-F", "-c", config])
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        return mail.launch(self)

    def trouble(self):
        return mail.tails(self.base / "stderr", self.base / "log")

    def messages(self):
        return [message for user in sorted(self.mail.iterdir()) for message in mail.read_maildir(user)]

    def count(self):
        return sum(mail.count_maildir(user) for user in self.mail.iterdir())

    def clean(self):
        mail.empty(self.mail)

    def stop(self):
        mail.end(self.process, signal.SIGTERM)
        self.process = None
