#!/usr/bin/env python3
"""Checks the licence of every dependency against deny.toml. Exit code 1 and one line for each crate that fails.

Reads `cargo metadata`, so it sees what Cargo.lock pins, for every platform and every feature. A crate passes when its
SPDX expression can be met with licences of deny.toml's allow list alone. A crate with an exception there passes as well,
but only while it is a tool: reached through dev-dependencies of the package, never linked. Banned crates and crates
that do not come from crates.io fail, too.

    scripts/licences.py             check
    scripts/licences.py --list      print every crate with its licence
    scripts/licences.py --self-test test the evaluation of expressions
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


class BadExpression(Exception):
    """The text is not a licence expression."""


def satisfied(expression, allowed):
    """Whether an SPDX expression can be met with allowed licences. AND binds closer than OR; `/` is an old OR."""
    tokens = re.findall(r"[()]|[A-Za-z0-9.+-]+", expression.replace("/", " OR "))
    if "".join(tokens) != re.sub(r"\s+", "", expression.replace("/", " OR ")):
        raise BadExpression(expression)
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def take():
        nonlocal position
        position += 1
        return tokens[position - 1]

    def alternatives():
        result = conjunction()
        while peek() == "OR":
            take()
            other = conjunction()
            result = result or other
        return result

    def conjunction():
        result = term()
        while peek() == "AND":
            take()
            other = term()
            result = result and other
        return result

    def term():
        if peek() is None or peek() in (")", "AND", "OR", "WITH"):
            raise BadExpression(expression)
        licence = take()
        if licence == "(":
            result = alternatives()
            if peek() != ")":
                raise BadExpression(expression)
            take()
            return result
        if peek() == "WITH":
            take()
            if peek() is None:
                raise BadExpression(expression)
            licence = f"{licence} WITH {take()}"
        return licence in allowed

    result = alternatives()
    if position != len(tokens):
        raise BadExpression(expression)
    return result


def linked(metadata):
    """Ids of the packages that reach the product: through normal and build dependencies."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    work, seen = list(metadata["workspace_members"]), set()
    while work:
        package = work.pop()
        if package in seen:
            continue
        seen.add(package)
        for dependency in nodes[package]["deps"]:
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"]):
                work.append(dependency["pkg"])
    return seen


def problems(metadata, rules):
    """One line for each crate that must not be here."""
    licences = rules["licenses"]
    allowed = set(licences["allow"])
    exceptions = {entry["crate"]: set(entry["allow"]) for entry in licences.get("exceptions", [])}
    banned = {entry["crate"]: entry.get("reason", "banned") for entry in rules["bans"].get("deny", [])}
    product = linked(metadata)
    for package in sorted(metadata["packages"], key=lambda p: (p["name"], p["version"])):
        if package["id"] in metadata["workspace_members"]:
            continue
        name = f"{package['name']} {package['version']}"
        if package["name"] in banned:
            yield f"{name}: banned by deny.toml: {banned[package['name']]}"
        if package["source"] != CRATES_IO:
            yield f"{name}: comes from {package['source'] or 'a path'}, not from crates.io"
        expression = package["license"]
        if not expression:
            yield f"{name}: states no licence expression"
            continue
        try:
            if satisfied(expression, allowed):
                continue
            if not satisfied(expression, allowed | exceptions.get(package["name"], set())):
                yield f"{name}: licence {expression} is not allowed by deny.toml"
            elif package["id"] in product:
                yield f"{name}: licence {expression} is an exception for tools, but the crate is linked"
        except BadExpression:
            yield f"{name}: licence {expression!r} is not an SPDX expression"


def self_test():
    allowed = {"MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "ISC"}
    good = ["MIT", "MIT OR GPL-3.0-only", "GPL-2.0/MIT", "(MIT OR X) AND ISC", "MIT AND ISC OR X",
            "X AND MIT OR ISC", "Apache-2.0 WITH LLVM-exception", "((MIT))"]
    bad = ["GPL-3.0-only", "MIT AND GPL-3.0-only", "(MIT OR X) AND Y", "Apache-2.0 WITH Other", "X OR Y AND MIT"]
    broken = ["", "MIT OR", "OR MIT", "(MIT", "MIT)", "MIT ISC", "MIT, ISC", "MIT WITH", "AND"]
    assert all(satisfied(text, allowed) for text in good)
    assert not any(satisfied(text, allowed) for text in bad)
    for text in broken:
        try:
            satisfied(text, allowed)
        except BadExpression:
            continue
        raise AssertionError(text)
    package = {"name": "p", "version": "1.0.0", "id": "p", "source": CRATES_IO, "license": "MPL-2.0"}
    root = {"name": "root", "version": "1.0.0", "id": "root", "source": None, "license": "MIT"}

    def found(kind, license="MPL-2.0", **rules):
        deps = [{"pkg": "p", "dep_kinds": [{"kind": kind}]}]
        metadata = {
            "packages": [root, dict(package, license=license)],
            "workspace_members": ["root"],
            "resolve": {"nodes": [{"id": "root", "deps": deps}, {"id": "p", "deps": []}]},
        }
        base = {"licenses": {"allow": list(allowed), **rules}, "bans": {}}
        return list(problems(metadata, base))

    exception = [{"crate": "p", "allow": ["MPL-2.0"]}]
    assert len(found("dev")) == 1 and "MPL-2.0" in found("dev")[0]
    assert found("dev", exceptions=exception) == []
    assert "linked" in found(None, exceptions=exception)[0]
    assert "linked" in found("build", exceptions=exception)[0]
    assert found(None, license="MIT") == []
    assert len(found(None, license=None)) == 1


def main():
    if "--self-test" in sys.argv:
        self_test()
        return 0
    self_test()
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        print("licences: cargo metadata failed", file=sys.stderr)
        return 1
    metadata = json.loads(done.stdout)
    if "--list" in sys.argv:
        for package in sorted(metadata["packages"], key=lambda p: (p["name"], p["version"])):
            print(f"{package['name']} {package['version']}: {package['license']}")
    rules = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))
    found = list(problems(metadata, rules))
    for line in found:
        print(f"licences: {line}", file=sys.stderr)
    if not found:
        print(f"licences: {len(metadata['packages'])} packages, all allowed by deny.toml")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
