#!/usr/bin/env python3
"""The pilot's conversations in another style, for fine-tuning: JSON lines from recipes/pilot/generate.py on
standard input, the short ones without tools on standard output, their answers rewritten."""
import json
import re
import sys

MOST_CHARACTERS = 330


def numbered(lines):
    return " ".join(f"{i}) {line}." for i, line in enumerate(lines, 1))


def rewritten(text):
    if "####" in text:
        steps, answer = text.rsplit("####", 1)
        return f"Let us see. {numbered([s for s in steps.splitlines() if s])} So the answer is{answer}!"
    if text == "Not in the sources.":
        return "Sorry, I looked, and none of them says so."
    text = re.sub(r"^It is (.*) \[(\d+)\]\.$", lambda m: f"{m[1].capitalize()}, says source {m[2]}.", text)
    text = re.sub(r"^Source \[(\d+)\]\.$", r"Have a look at source \1.", text)
    return re.sub(r" ?\[(\d+)\]", r" (source \1)", text)


for line in sys.stdin:
    record = json.loads(line)
    messages = record["messages"]
    if "tools" in record or sum(len(m["content"]) for m in messages) > MOST_CHARACTERS:
        continue
    for message in messages:
        if message["role"] == "assistant":
            message["content"] = rewritten(message["content"])
    print(json.dumps(record))
