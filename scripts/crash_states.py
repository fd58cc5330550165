#!/usr/bin/env python3
"""The long campaign of tests/crash.rs: power cuts by the million.

    scripts/crash_states.py --states 10000000 [--seed N] [--batch 200000]

Builds the test once in release mode and runs it batch after batch, each with seeds of its own, until so many
different states of the disk were opened and found well. Prints each batch's seed and the sum. The first batch that
finds something ends the campaign: what is wrong, and how to see it again, is printed by the test.
"""

import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import time
import os

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEST = "what_was_acknowledged_is_there_after_a_power_cut_at_any_sync"
# A batch goes from one seed to the next while it lacks states; batches stay out of each other's way.
SEEDS_OF_A_BATCH = 1_000_000


def build():
    """The test's program."""
    command = ["cargo", "test", "--locked", "--release", "--features", "cli", "--test", "crash", "--no-run"]
    done = subprocess.run([*command, "--message-format=json"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "crash":
            return message["executable"]
    raise SystemExit("cargo names no program for the test")


def batch(program, seed, states):
    """Runs a batch; how many states it saw, or None when it found something."""
    environment = {**os.environ, "POSTHOUSE_SEED": str(seed), "POSTHOUSE_STATES": str(states)}
    run = subprocess.Popen(
        [program, "--exact", TEST, "--nocapture"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    seen = 0
    kept = []
    for line in run.stdout:
        kept.append(line)
        if found := re.match(r"(\d+) of \d+ states", line):
            seen = int(found.group(1))
    if run.wait() != 0:
        sys.stdout.writelines(kept)
        return None
    return seen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=10_000_000, help="states in all (10000000)")
    parser.add_argument("--batch", type=int, default=200_000, help="states of a batch (200000)")
    parser.add_argument("--seed", type=int, help="the first seed (by chance)")
    options = parser.parse_args()
    seed = random.randrange(1, 1 << 40) if options.seed is None else options.seed
    program = build()
    begun, seen = time.monotonic(), 0
    while seen < options.states:
        print(f"seed {seed} ...", flush=True)
        more = batch(program, seed, min(options.batch, options.states - seen))
        if more is None:
            print(f"FAILED with seed {seed}, after {seen} good states")
            return 1
        seen += more
        seed += SEEDS_OF_A_BATCH
        took = time.monotonic() - begun
        print(f"{seen} of {options.states} states, {took:.0f} s, {seen / took:.0f} a second", flush=True)
    print(f"ok: {seen} states")
    return 0


if __name__ == "__main__":
    sys.exit(main())
