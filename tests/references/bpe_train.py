#!/usr/bin/env python3
"""Compares vocabularies made by `watt tokenize --train` with those of Hugging Face's `tokenizers`.

The same text, the same size: all merges must be the same, in the same order.

WATT names the program under test, WATT_SHARED the shared data.
"""
# requires: tokenizers
import json
import os
import struct
import subprocess
import sys
import tempfile

sys.path.pop(0)     # this file's folder: it has a file of a package's name

try:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

WATT = os.environ.get("WATT", "build/watt")
SHARED = os.environ.get("WATT_SHARED", "../shared/data")
SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
PATTERNS = {
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "stablelm2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
                 r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def merges_of(path):
    """tokenizer.ggml.merges of a GGUF file."""
    with open(path, "rb") as f:
        data = f.read()
    n_keys = struct.unpack_from("<Q", data, 16)[0]
    at = 24

    def string():
        nonlocal at
        n = struct.unpack_from("<Q", data, at)[0]
        at += 8 + n
        return data[at - n:at].decode()

    for _ in range(n_keys):
        key = string()
        kind = struct.unpack_from("<I", data, at)[0]
        at += 4
        if kind == 8:
            string()
        elif kind == 9:
            inner, n = struct.unpack_from("<IQ", data, at)
            at += 12
            if inner == 8:
                values = [string() for _ in range(n)]
                if key == "tokenizer.ggml.merges":
                    return values
            else:
                at += n * SCALARS[inner]
        else:
            at += SCALARS[kind]
    return None


def theirs(text, pattern, n):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=n, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), min_frequency=2, show_progress=False))
    return [" ".join(m) for m in json.loads(t.to_str())["model"]["merges"]]


def main():
    folder = os.path.join(SHARED, "corpora")
    texts = [os.path.join(folder, n) for n in sorted(os.listdir(folder)) if n.endswith(".txt")] \
        if os.path.isdir(folder) else [__file__]
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "v.gguf")
        for path in texts:
            with open(path, newline="", errors="replace") as f:
                text = f.read()
            copy = os.path.join(tmp, "text")
            with open(copy, "w", newline="") as f:
                f.write(text)
            for pre, pattern in PATTERNS.items():
                for n in (1000, 32000):
                    subprocess.run([WATT, "tokenize", out, "--train", copy, "--vocab", str(n), "--pre", pre],
                                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    want, got = theirs(text, pattern, n), merges_of(out)
                    bad += want != got
                    print(f"{os.path.basename(path)} {pre} {n}: {len(got)} merges, "
                          f"{'the same' if want == got else 'DIFFERENT'}")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
