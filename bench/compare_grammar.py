#!/usr/bin/env python3
"""Grammars of Watt beside xgrammar and llguidance, on the same schemas, texts and vocabulary.

    compare_grammar.py BENCH_GRAMMAR VOCABULARY.gguf [--suite FOLDER] [--only NAME] [--json OUT]
                       [--seconds N]

BENCH_GRAMMAR is build/bench/bench_grammar. Prints, per schema, milliseconds to compile and microseconds a
mask (median and 99th percentile, of the first text under a new grammar, this process's CPU time, one
thread), and how far the masks agree; then, with --suite (JSON-Schema-Test-Suite's draft2020-12), which
of the suite's schemas each compiles and which instances it accepts, over single bytes as tokens.
Needs `pip install xgrammar llguidance`; what can't be imported is left out with a message.
"""
import argparse
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import time

LOREM = "The quick brown fox jumps over the lazy dog near the river bank, and nobody minds. "
TEXT = {"type": "string"}


def obj(properties, required=None, **more):
    return dict(type="object", properties=properties, additionalProperties=False,
                required=list(properties) if required is None else required, **more)


def ordinary():
    """Schemas as people write them, each with a value."""
    tree = obj({"v": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#/$defs/t"}}})
    line = obj({"sku": {"type": "string", "pattern": "^[A-Z0-9]{8,12}$"},
                "qty": {"type": "integer", "minimum": 1, "maximum": 999},
                "note": {"type": ["string", "null"], "maxLength": 500}})
    union = {"anyOf": [obj({"type": {"const": "text"}, "text": TEXT}),
                       obj({"type": {"const": "image"}, "url": TEXT, "width": {"type": "integer"}})]}
    many = obj({f"field_{i}": [TEXT, {"type": "integer"}, {"type": "boolean"},
                               {"type": "array", "items": TEXT}][i % 4] for i in range(60)})
    yield "person", obj({"name": TEXT, "age": {"type": "integer"},
                         "tags": {"type": "array", "items": TEXT}}), {
        "name": "Ada Lovelace of London", "age": 36, "tags": ["maths", "poetry", "engines"]}
    yield "event", obj({"id": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
                        "when": {"type": "string", "format": "date-time"},
                        "kind": {"enum": ["created", "updated", "deleted"]}}), {
        "id": "ABC-1234", "when": "2024-05-06T07:08:09Z", "kind": "updated"}
    yield "any object", {"type": "object"}, {"a": [1, 2.5, None, True, {"b": "some words"}]}
    yield "maxLength 100 and 2,000", obj({"title": {"type": "string", "maxLength": 100},
                                          "body": {"type": "string", "maxLength": 2000}}), {
        "title": "A short title of a story about foxes", "body": LOREM * 5 + "Größe 東京は日本の首都。"}
    yield "lengths 3-20, 8-64", obj({"user": {"type": "string", "minLength": 3, "maxLength": 20},
                                     "word": {"type": "string", "minLength": 8, "maxLength": 64}}), {
        "user": "ada_lovelace", "word": "correct horse battery staple"}
    yield "maxLength 65,000", obj({"text": {"type": "string", "maxLength": 65000}}), {
        "text": LOREM * 4}
    yield "pattern with length", obj({"slug": {"type": "string", "pattern": "^[a-z0-9-]+$",
                                               "minLength": 2, "maxLength": 60}}), {
        "slug": "how-to-write-a-fast-grammar-engine"}
    yield "formats", obj({"mail": {"type": "string", "format": "email"},
                          "id": {"type": "string", "format": "uuid"},
                          "ip": {"type": "string", "format": "ipv4"}}), {
        "mail": "ada@example.org", "id": "123e4567-e89b-12d3-a456-426614174000",
        "ip": "192.168.1.254"}
    yield "numbers with bounds", obj({"lat": {"type": "number", "minimum": -90, "maximum": 90},
                                      "n": {"type": "integer", "minimum": 1, "maximum": 1000}}), {
        "lat": -33.8675, "n": 420}
    yield "tree by $ref", {"$ref": "#/$defs/t", "$defs": {"t": tree}}, {
        "v": 1, "kids": [{"v": 2, "kids": []}, {"v": 4, "kids": []}]}
    yield "list of unions", {"type": "array", "items": union}, [
        {"type": "text", "text": "hello there"}, {"type": "image", "url": "a/c.png", "width": 640}]
    yield "60 properties", many, {f"field_{i}": ["some text here", i * 7, i % 3 == 0, ["x", "y z"]][i % 4]
                                  for i in range(60)}
    yield "enum of 500", obj({"city": {"enum": [f"city {i} of {i * 37 % 101}" for i in range(500)]}}), {
        "city": "city 321 of 60"}
    yield "order with lines", obj({"id": {"type": "integer"}, "lines": {
        "type": "array", "minItems": 1, "maxItems": 50, "items": line}}), {
        "id": 77, "lines": [{"sku": "ABC12345X", "qty": 3, "note": "please wrap it as a gift"},
                            {"sku": "ZZZ99999", "qty": 1, "note": None}]}


def cases():
    for name, schema, value in ordinary():
        yield {"name": name, "schema": schema, "texts": [json.dumps(value, ensure_ascii=False)]}
    for pattern, text in ((r"[0-9]{4}-[0-9]{2}-[0-9]{2}", "2024-05-06"),
                          (r"[^\n]{1,200}\n", LOREM * 2 + "\n"),
                          (r"[a-z]{10,40}", "supercalifragilisticexpialidocious"),
                          (r"([A-Za-z]+ ){3,8}[A-Za-z]+[.!?]", "The quick brown fox jumps over it.")):
        yield {"name": f"regex {pattern}", "regex": pattern, "texts": [text]}


class Xgrammar:
    name = "xgrammar"

    def __init__(self, pieces, ends):
        import xgrammar
        self.x, self.n = xgrammar, len(pieces)
        info = xgrammar.TokenizerInfo([p or b"<|special_%d|>" % i for i, p in enumerate(pieces)],
                                      xgrammar.VocabType.RAW, vocab_size=self.n, stop_token_ids=ends)
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self.bits = xgrammar.allocate_token_bitmask(1, self.n)

    def open(self, case):
        if "schema" in case:
            g = self.compiler.compile_json_schema(json.dumps(case["schema"]), strict_mode=False)
        else:
            g = self.compiler.compile_regex(case["regex"])
        return self.x.GrammarMatcher(g)

    def mask(self, m):
        self.bits.fill_(-1)
        m.fill_next_token_bitmask(self.bits)
        return self.bits

    def bytes_of(self, mask):
        return mask.numpy().tobytes()

    def accept(self, m, token):
        return m.accept_token(token)

    def complete(self, m, end):
        return m.accept_token(end)


class Llguidance:
    name = "llguidance"

    def __init__(self, pieces, ends):
        import llguidance
        self.x, self.n = llguidance, len(pieces)

        known = {p: i for i, p in reversed(list(enumerate(pieces))) if p}

        class Tokens:
            eos_token_id, bos_token_id = ends[0], None
            tokens = [p or b"<|special_%d|>" % i for i, p in enumerate(pieces)]
            special_token_ids = [i for i, p in enumerate(pieces) if not p]

            def __call__(self, text):
                """The longest token first: llguidance asks how bytes that must come are cut."""
                text = text.encode() if isinstance(text, str) else bytes(text)
                ids, at = [], 0
                while at < len(text):
                    n = next(n for n in range(min(64, len(text) - at), 0, -1) if text[at:at + n] in known)
                    ids.append(known[text[at:at + n]])
                    at += n
                return ids

        self.tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Tokens()))

    def open(self, case):
        if "schema" in case:
            g = self.x.LLMatcher.grammar_from_json_schema(json.dumps(case["schema"]))
        else:
            g = self.x.LLMatcher.grammar_from_regex(case["regex"])
        m = self.x.LLMatcher(self.tokenizer, g, log_level=0)
        if m.is_error():
            raise ValueError(m.get_error())
        m.compute_bitmask()     # the first one builds what others build when they compile
        m.reset()
        return m

    def mask(self, m):
        return m.compute_bitmask()

    def bytes_of(self, mask):
        return bytes(mask)

    def accept(self, m, token):
        return m.consume_token(token)

    def complete(self, m, end):
        return m.is_accepting()


def quantile(v, q):
    v = sorted(v)
    return v[min(len(v) - 1, int(q * len(v)))] if v else 0.0


def as_int(mask, n):
    return int.from_bytes(mask, "little") & ((1 << n) - 1)


def run(engine, case, ids, ours, ends):
    """Times and agreement of one engine on one case; ours: Watt's masks as integers."""
    t0 = time.process_time()
    m = engine.open(case)
    compiled = (time.process_time() - t0) * 1e3
    times, same, fewer, more, at = [], 0, 0, 0, 0
    special = sum(1 << i for i in ends)
    for at in range(len(ids) + 1):
        t0 = time.process_time()
        mask = engine.mask(m)
        times.append((time.process_time() - t0) * 1e6)
        if at < len(ours):
            theirs, mine = as_int(engine.bytes_of(mask), engine.n) & ~special, ours[at] & ~special
            same += theirs == mine
            fewer += bin(mine & ~theirs).count("1")
            more += bin(theirs & ~mine).count("1")
        if at == len(ids) or not engine.accept(m, ids[at]):
            break
    return {"compile_ms": compiled, "us": times, "same": same, "only_watt": fewer, "only_it": more,
            "accepted": at == len(ids)}


def limited(work, seconds):
    """What work() returns, made in a process of its own: engines can't be interrupted."""
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(r)
        try:
            result = (True, work())
        except Exception as why:    # an engine's refusal can be of any class
            result = (False, f"refused: {str(why)[:60]!r}")
        with os.fdopen(w, "wb") as f:
            pickle.dump(result, f)
        os._exit(0)
    os.close(w)
    data = b""
    end = time.monotonic() + seconds
    with os.fdopen(r, "rb", buffering=0) as f:
        while select.select([f], [], [], max(0.0, end - time.monotonic()))[0]:
            more = f.read(1 << 20)
            if not more:
                break
            data += more
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.waitpid(child, 0)
    try:
        return pickle.loads(data)
    except (EOFError, pickle.UnpicklingError):
        return False, f"over {seconds} s"


def watt(bench, vocabulary, todo, masks):
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as f:
        json.dump(todo, f)
    try:
        out = subprocess.run([bench, vocabulary, f.name, "--masks", masks], check=True,
                             capture_output=True, text=True).stdout
    finally:
        os.unlink(f.name)
    return [json.loads(line) for line in out.splitlines()]


def read_pieces(bench, vocabulary, folder):
    path = os.path.join(folder, "pieces")
    subprocess.run([bench, vocabulary, "--pieces", path], check=True)
    with open(path, encoding="ascii") as f:
        lines = f.read().split("\n")[:-1]
    ends = [i for i, p in enumerate(lines) if p.startswith("end")]
    return [bytes.fromhex(p.removeprefix("end")) for p in lines], ends


def engines(pieces, ends):
    found = []
    for kind in (Xgrammar, Llguidance):
        try:
            found.append(kind(pieces, ends))
        except ImportError as e:
            print(f"{kind.name} is left out: {e}", file=sys.stderr)
    return found


def compare(args, folder):
    pieces, ends = read_pieces(args.bench, args.vocabulary, folder)
    todo = [c for c in cases() if not args.only or args.only in c["name"]]
    masks = os.path.join(folder, "masks")
    mine = watt(args.bench, args.vocabulary, todo, masks)
    words = (len(pieces) + 63) // 64 * 8
    others = engines(pieces, ends)
    if not others:
        print("neither xgrammar nor llguidance can be imported: nothing to compare with")
        return []
    print("| schema | | compile ms | mask median | 99th | tokens | same masks | only Watt | only it |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = []
    with open(masks, "rb") as f:
        for case, r in zip(todo, mine):
            if "error" in r:
                print(f"| {case['name']} | Watt | refused: {r['error']} |")
                continue
            text = r["texts"][0]
            us = text["mask_us"]
            ours = [as_int(f.read(words), len(pieces)) for _ in us]
            print(f"| {case['name']} | Watt | {r['compile_ms']:.2f} | {quantile(us, .5):.0f} µs | "
                  f"{quantile(us, .99):.0f} µs | {len(us)} | | | |", flush=True)
            rows.append({"case": case["name"], "engine": "watt", "compile_ms": r["compile_ms"], "us": us})
            for e in others:
                ok, o = limited(lambda e=e: run(e, case, text["ids"], ours, ends), args.seconds)
                if not ok:
                    print(f"| | {e.name} | {o} |", flush=True)
                    continue
                print(f"| | {e.name} | {o['compile_ms']:.2f} | {quantile(o['us'], .5):.0f} µs | "
                      f"{quantile(o['us'], .99):.0f} µs | {len(o['us'])} | {o['same']} | "
                      f"{o['only_watt']} | {o['only_it']} |", flush=True)
                rows.append({"case": case["name"], "engine": e.name, **o})
    return rows


def suite_cases(folder):
    for root, _, files in sorted(os.walk(folder)):
        for name in sorted(files):
            if name.endswith(".json"):
                with open(os.path.join(root, name), encoding="utf-8") as f:
                    try:
                        groups = json.load(f)
                    except ValueError:
                        continue
                for g in groups:
                    yield f"{name}: {g['description']}", g["schema"], g["tests"]


def accepts(engine, case, text, end):
    m = engine.open(case)
    return all(engine.accept(m, b) for b in text) and engine.complete(m, end)


def suite(args):
    """Which schemas each compiles, and which instances it accepts, over bytes as tokens."""
    pieces = [bytes([i]) for i in range(256)] + [b""]
    for e in engines(pieces, [256]):
        n = ok = valid = accepted = invalid = wrong = 0
        for name, schema, tests in suite_cases(args.suite):
            n += 1
            case = {"schema": schema}
            try:
                e.open(case)
            except Exception:
                continue
            ok += 1
            for t in tests:
                text = json.dumps(t["data"], ensure_ascii=False).encode("utf-8", "surrogatepass")
                try:
                    yes = accepts(e, case, text, 256)
                except Exception:
                    yes = False
                valid += t["valid"]
                invalid += not t["valid"]
                accepted += t["valid"] and yes
                wrong += yes and not t["valid"]
        print(f"{e.name}: {ok} of {n} schemas compile; of their instances {accepted} of {valid} valid ones "
              f"are accepted and {wrong} of {invalid} invalid ones", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("bench")
    p.add_argument("vocabulary")
    p.add_argument("--suite")
    p.add_argument("--only")
    p.add_argument("--json")
    p.add_argument("--seconds", type=float, default=60, help="for one engine on one schema")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(args, folder)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(rows, f)
    if args.suite:
        suite(args)


if __name__ == "__main__":
    main()
