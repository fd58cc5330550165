"""The load generator against a sink: what it counts is what arrived, octet by octet, in every mode."""

import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from message import load_identity, load_message
from server import program
from sink import Sink


def load(sink, *arguments):
    host, port = sink.server_address
    done = subprocess.run([program("posthouse-load"), "--target", f"{host}:{port}", *map(str, arguments)],
                          capture_output=True, text=True, timeout=60)
    return done.returncode, json.loads(done.stdout)


def every_mode_delivers_whole_messages():
    for mode in ("grouped", "plain", "bdat"):
        for size in (200, 4096, 70001):
            with Sink() as sink, tempfile.NamedTemporaryFile() as record:
                code, line = load(sink, "--mode", mode, "--size", size, "--connections", 7, "--messages", 100,
                                  "--per-connection", 5, "--record", record.name)
                assert code == 0 and line["messages"] == 100 and line["errors"] == 0, line
                identities = set()
                for message in sink.messages:
                    identity, said = load_identity(message)
                    assert said == size == len(message), (said, size, len(message))
                    assert message == load_message(identity, size), identity
                    identities.add(identity)
                assert len(identities) == 100, "an id was sent twice"
                recorded = set(pathlib.Path(record.name).read_bytes().split())
                assert recorded == identities, "the record is not what was acknowledged"


def a_lost_reply_is_unknown_and_not_recorded():
    with Sink(fail_after=10) as sink, tempfile.NamedTemporaryFile() as record:
        code, line = load(sink, "--connections", 4, "--messages", 1000, "--record", record.name)
        assert code == 1 and line["unknown"] == 4 and line["messages"] == 10, line
        assert len(pathlib.Path(record.name).read_bytes().split()) == 10
        code, line = load(sink, "--connections", 2, "--seconds", 0.3, "--retry")
        assert code == 0 and line["unknown"] >= 2 and line["messages"] == 0 and line["reconnects"] > 0, line


def a_wrong_reply_is_an_error():
    # Nobody listens any more.

    with Sink() as sink:
        address = sink.server_address
    done = subprocess.run([program("posthouse-load"), "--target", f"{address[0]}:{address[1]}", "--messages", "1"],
                          capture_output=True, text=True, timeout=60)
    line = json.loads(done.stdout)
    assert done.returncode == 1 and line["errors"] == 10 and "connect" in line["first_error"], line


if __name__ == "__main__":
    for test in (every_mode_delivers_whole_messages, a_lost_reply_is_unknown_and_not_recorded, a_wrong_reply_is_an_error):
        test()
        print(f"ok {test.__name__}", flush=True)
