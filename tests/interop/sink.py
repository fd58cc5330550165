"""A tiny SMTP sink for checking our own tools: takes every message, keeps them in memory, one thread a connection."""

import socketserver
import threading


class Sink(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, fail_after=None):
        """`fail_after`: close the connection without a reply after so many messages."""
        self.messages = []
        self.lock = threading.Lock()
        self.fail_after = fail_after
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    wbufsize = -1

    def say(self, line):
        self.wfile.write(line + b"\r\n")

    def keep(self, message):
        with self.server.lock:
            if self.server.fail_after is not None and len(self.server.messages) >= self.server.fail_after:
                return False
            self.server.messages.append(message)
        self.say(b"250 2.0.0 taken")
        return True

    def handle(self):
        self.say(b"220 sink ESMTP")
        while True:
            self.wfile.flush()
            line = self.rfile.readline()
            if not line:
                return
            command = line[:4].upper()
            if command == b"EHLO":
                self.say(b"250-sink")
                self.say(b"250-PIPELINING")
                self.say(b"250 CHUNKING")
            elif command == b"DATA":
                self.say(b"354 go on")
                self.wfile.flush()
                body = []
                while (part := self.rfile.readline()) != b".\r\n":
                    if not part:
                        return
                    body.append(part[1:] if part.startswith(b".") else part)
                if not self.keep(b"".join(body)):
                    return
            elif command == b"BDAT":
                if not self.keep(self.rfile.read(int(line.split()[1]))):
                    return
            elif command == b"QUIT":
                self.say(b"221 bye")
                self.wfile.flush()
                return
            else:
                self.other(line)

    def other(self, line):
        self.say(b"250 2.0.0 ok")
