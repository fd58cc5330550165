"""A POP3 reader that asks for many messages at once (RFC 2449 6.6), for mailboxes of tens of thousands."""

import socket


class Reader:
    def __init__(self, address, login, password):
        self.socket = socket.create_connection(address, timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self._line()
        self.command(f"USER {login}")
        self.command(f"PASS {password}")
        self.count = int(self.command("STAT").split()[1])

    def _more(self):
        octets = self.socket.recv(1 << 18)
        if not octets:
            raise ConnectionError("the server closed the POP3 connection")
        self.buffer += octets

    def _line(self):
        while b"\r\n" not in self.buffer:
            self._more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        if not line.startswith(b"+OK"):
            raise RuntimeError(f"POP3: {line.decode(errors='replace')}")
        return line

    def command(self, text):
        self.socket.sendall(text.encode() + b"\r\n")
        return self._line().decode()

    def messages(self, batch=32):
        """Number and octets of every message."""
        for first in range(1, self.count + 1, batch):
            numbers = range(first, min(first + batch, self.count + 1))
            self.socket.sendall(b"".join(b"RETR %d\r\n" % number for number in numbers))
            for number in numbers:
                self._line()
                # The message may be empty: then the dot stands at once.
                while not self.buffer.startswith(b".\r\n") and b"\r\n.\r\n" not in self.buffer:
                    self._more()
                if self.buffer.startswith(b".\r\n"):
                    body, self.buffer = b"", self.buffer[3:]
                else:
                    body, _, self.buffer = self.buffer.partition(b"\r\n.\r\n")
                    body += b"\r\n"
                yield number, body.replace(b"\r\n.", b"\r\n") if b"\r\n." in body else body

    def delete(self, numbers, batch=256):
        numbers = list(numbers)
        for first in range(0, len(numbers), batch):
            part = numbers[first:first + batch]
            self.socket.sendall(b"".join(b"DELE %d\r\n" % number for number in part))
            for _ in part:
                self._line()

    def quit(self):
        self.command("QUIT")
        self.socket.close()
