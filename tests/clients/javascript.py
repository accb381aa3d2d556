#!/usr/bin/env python3
"""The official clients for JavaScript: openai, @anthropic-ai/sdk, ollama."""
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from rig import HERE, PILOT, Server, skip  # noqa: E402

PACKAGES = ("openai", "@anthropic-ai/sdk", "ollama")
FOLDER = os.environ.get("WATT_NODE_FOLDER") or os.path.abspath(os.path.join(HERE, "../../../.cache/node"))


def main():
    if not shutil.which("node") or not shutil.which("npm"):
        skip("node and npm are not here")
    missing = [p for p in PACKAGES if not os.path.isdir(os.path.join(FOLDER, "node_modules", p))]
    os.makedirs(FOLDER, exist_ok=True)
    if missing and subprocess.run(["npm", "install", "--silent", "--no-fund", "--no-audit", *missing],
                                  cwd=FOLDER, capture_output=True, check=False).returncode != 0:
        skip("cannot install " + " ".join(missing))
    env = {**os.environ, "NODE_FOLDER": FOLDER}
    with Server("--api-key", "k") as server:
        subprocess.run(["node", os.path.join(HERE, "clients.mjs"), server.url], check=True,
                       stdout=subprocess.DEVNULL, timeout=300, env=env)
    with Server(model=PILOT, name="pilot") as server:
        subprocess.run(["node", os.path.join(HERE, "tools.mjs"), server.url], check=True,
                       stdout=subprocess.DEVNULL, timeout=300, env=env)
    versions = []
    for p in PACKAGES:
        with open(os.path.join(FOLDER, "node_modules", p, "package.json")) as f:
            versions.append(p + " " + json.load(f)["version"])
    print("both scripts went through; " + ", ".join(versions))


main()
