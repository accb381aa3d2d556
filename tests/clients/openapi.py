#!/usr/bin/env python3
"""schemathesis makes requests from the OpenAPI document: none of them gets a 5xx. --full: many more."""
# requires: schemathesis
import importlib.metadata
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from rig import Server, check, done  # noqa: E402


def any_model(schema):
    """Requests for models that are not here would tell nothing of the other fields."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema["properties"].pop("model", None)
        for value in schema.values():
            any_model(value)
    return schema


def main():
    full = "--full" in sys.argv
    with Server(ctx=256) as server:
        document = os.path.join(server.folder, "openapi.json")
        with open(document, "w") as f:
            json.dump(any_model(json.loads(server.ask("/openapi.json")[2])), f)
        r = subprocess.run(
            [os.path.join(os.path.dirname(sys.executable), "schemathesis"), "run", document, "--url",
             server.url, "--phases", "examples,coverage,fuzzing" if full else "fuzzing", "-c",
             "not_a_server_error", "-c", "status_code_conformance", "-n", "50" if full else "8",
             "--seed", "1", "--request-timeout", "60", "--generation-database", "none"],
            capture_output=True, text=True, timeout=3000, check=False)
        check(r.returncode == 0, r.stdout[-6000:] + r.stderr[-2000:])
        check(server.load() == 0, "nothing runs on")
        cases = re.search(r"(\d+) generated", r.stdout)
    done(f"schemathesis {importlib.metadata.version('schemathesis')}, "
         f"{cases.group(1) if cases else '?'} requests")


main()
