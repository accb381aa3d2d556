#!/usr/bin/env python3
"""Compares `watt tokenize` with the original implementations on many texts.

Compared with: Hugging Face's `tokenizers` for byte-level BPE, WordPiece and
Unigram, `tiktoken` for vocabularies that were made for it, `sentencepiece` for
SentencePiece BPE and Unigram. The originals are rebuilt from the vocabulary and
merges of the GGUF files in the shared data (tokenizers/) and each family's
published normaliser and pre-tokenizer, so nothing is downloaded. Unigram has no
file there: a small one is trained here and written to GGUF.

WATT names the program under test, WATT_SHARED the shared data. TEXTS in the
environment says how many texts per vocabulary (default 10000).
"""
# requires: tokenizers tiktoken sentencepiece gguf
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

sys.path.pop(0)     # this file's folder: the package has this file's name

try:
    import gguf
    import sentencepiece
    import tiktoken
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
    from tokenizers import pre_tokenizers as pre
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

WATT = os.environ.get("WATT", "build/watt")
SHARED = os.environ.get("WATT_SHARED", "../shared/data")
TEXTS = int(os.environ.get("TEXTS", "10000"))
TABLE = os.path.join(SHARED, "tokenizers")


# ---- texts ----

# Blocks of assigned characters in many scripts; what Unicode 13 does not know is
# left out, because implementations differ in how new their tables are.
BLOCKS = [
    (0x20, 0x7E), (0x20, 0x7E), (0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x24F), (0x250, 0x2FF),
    (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x58F), (0x590, 0x5FF),
    (0x600, 0x6FF), (0x700, 0x74F), (0x900, 0x97F), (0x980, 0x9FF), (0xA00, 0xA7F),
    (0xA80, 0xAFF), (0xB00, 0xB7F), (0xB80, 0xBFF), (0xC00, 0xC7F), (0xC80, 0xCFF),
    (0xD00, 0xD7F), (0xD80, 0xDFF), (0xE00, 0xE7F), (0xE80, 0xEFF), (0xF00, 0xFFF),
    (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F), (0x13A0, 0x13FF),
    (0x1400, 0x167F), (0x1780, 0x17FF), (0x1800, 0x18AF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF),
    (0x2000, 0x206F), (0x2070, 0x209F), (0x20A0, 0x20CF), (0x2100, 0x218F), (0x2190, 0x23FF),
    (0x2460, 0x24FF), (0x2500, 0x27BF), (0x2E80, 0x2FDF), (0x3000, 0x303F), (0x3040, 0x30FF),
    (0x3100, 0x312F), (0x3130, 0x318F), (0x3200, 0x33FF), (0x3400, 0x3FFF), (0x4E00, 0x9FFF),
    (0x4E00, 0x9FFF), (0xA000, 0xA48F), (0xA640, 0xA69F), (0xA720, 0xA7BF), (0xAC00, 0xD7A3),
    (0xF900, 0xFAD9), (0xFB00, 0xFB4F), (0xFE30, 0xFE4F), (0xFF00, 0xFFEF), (0x10000, 0x100FA),
    (0x10400, 0x1044F), (0x12000, 0x12399), (0x1D400, 0x1D7FF), (0x1F300, 0x1F64F),
    (0x1F680, 0x1F6D7), (0x20000, 0x2A6D0),
]
EDGES = (
    [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", "\u00a0", "\u3000", "\u2028",
     "\u200b", "\u200d", "\ufeff", "\x01", "\x7f", "\x85", "'s", "'S", "'T", "'re", "'LL", "'\u017f",
     "'", "’s", "...", "!!!", "//", "1", "12", "123", "1234", "12345678", "½", "²", "٣٤٥", "Ⅷ",
     "the", " The", "HELLO", "HelloWorld", "iPhone", "don't", "I'll", "e\u0301", "n\u0303", "각",
     "\u1112\u1161\u11ab", "कि", "ffi", "ﬁ", "İ", "ß", "ǅ", "中文", "日本語テスト", "한국어", "ไทย",
     "😀", "👨‍👩‍👧", "🇩🇪", "<s>", "</s>", "<0x0A>", "[UNK]", "##ing", "▁", "_", "\\", "#", "=="]
)
WORDS = ("the of and to in is that it was for on are as with his they at be this from have or by "
         "one had not but what all were when we there can an your which their said if do will each "
         "about how up out them then she many some so these would other into has more her two like "
         "him see time could no make than first been its who now people my made over did down only "
         "way find use may water long little very after words called just where most know int main "
         "return void def self None import function const let var printf malloc").split()


def known(ch):
    # Assigned, and not one that NFC implementations treat by their version.
    # U+0EBA became a combining mark in Unicode 12; theirs does not know it yet.
    return unicodedata.category(ch) not in ("Cn", "Cs", "Co") and ch not in "\0\u0eba"


def make_texts(count, corpora):
    rng = random.Random(20260701)
    texts = []
    chars = [[c for c in map(chr, range(a, b + 1)) if known(c)] for a, b in BLOCKS]
    while len(texts) < count:
        kind = len(texts) % 5
        if kind == 0 and corpora:
            corpus = rng.choice(corpora)
            at = rng.randrange(len(corpus))
            texts.append(corpus[at:at + rng.randrange(1, 400)])
        elif kind == 1:
            texts.append(" ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 30))))
        elif kind == 2:
            block = rng.choice(chars)
            words = ["".join(rng.choice(block) for _ in range(rng.randrange(1, 9)))
                     for _ in range(rng.randrange(1, 12))]
            texts.append(rng.choice([" ", "", ", ", "\n"]).join(words))
        elif kind == 3:
            texts.append("".join(rng.choice(EDGES) for _ in range(rng.randrange(1, 25))))
        else:
            parts = [rng.choice([rng.choice(EDGES), rng.choice(WORDS),
                                 rng.choice(rng.choice(chars))]) for _ in range(rng.randrange(1, 30))]
            texts.append("".join(parts))
    return texts


# ---- the program under test ----

def watt(path, texts):
    data = b"\0".join(t.encode() for t in texts) + b"\0"
    out = subprocess.run([WATT, "tokenize", path, "--null", "--no-special", "-"], input=data,
                         stdout=subprocess.PIPE, check=True).stdout.decode()
    lines = out.split("\n")[:-1]
    assert len(lines) == len(texts), (len(lines), len(texts))
    return [[int(i) for i in line.split()] for line in lines]


def watt_decode(path, ids):
    data = "\n".join(" ".join(map(str, i)) for i in ids) + "\n"
    out = subprocess.run([WATT, "tokenize", path, "--null", "--ids", "-"], input=data.encode(),
                         stdout=subprocess.PIPE, check=True).stdout
    parts = out.split(b"\0")[:-1]
    assert len(parts) == len(ids), (len(parts), len(ids))
    return parts


# ---- vocabularies ----

class Vocab:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.path = path

        def strings(key):
            field = reader.fields.get("tokenizer.ggml." + key)
            return [bytes(field.parts[i]).decode() for i in field.data] if field else []

        def numbers(key):
            field = reader.fields.get("tokenizer.ggml." + key)
            return [field.parts[i][0].item() for i in field.data] if field else []

        self.tokens = strings("tokens")
        self.merges = strings("merges")
        self.kinds = numbers("token_type")
        self.scores = numbers("scores")


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT4O = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])


def split(pattern):
    return pre.Split(Regex(pattern), "isolated")


def byte_level(use_regex=False):
    return pre.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def deepseek_llm():
    letters = ("A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿ"
               "ᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝ\u1f5f-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌ\u1fd0-\u1fd3\u1fd6-\u1fdbῠ-Ῥῲ-ῴ"
               "ῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⲲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿ"
               "ﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃")
    return pre.Sequence([
        split("[\r\n]"), split(r"\s?[" + letters + "]+"),
        split("\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+"), split(r"\s+$"),
        split("[一-龥\u0800-一가-\ud7ff]+"), pre.Digits(individual_digits=True), byte_level()])


# name: (pre-tokenizer, normaliser, ignore merges)
BYTE_LEVEL = {
    "gpt-2": (lambda: byte_level(True), None, False),
    "refact": (lambda: pre.Sequence([pre.Digits(True), byte_level(True)]), None, False),
    "falcon": (lambda: pre.Sequence([pre.Punctuation("contiguous"), byte_level(True),
                                     pre.Digits(False), split("[0-9][0-9][0-9]")]), None, False),
    "llama-bpe": (lambda: pre.Sequence([split(LLAMA3), byte_level()]), None, True),
    "qwen2": (lambda: pre.Sequence([split(QWEN2), byte_level()]), normalizers.NFC, False),
    "gpt-4o": (lambda: pre.Sequence([split(GPT4O), byte_level()]), None, False),
    "deepseek-llm": (deepseek_llm, None, False),
}


def hugging_face(name, vocab):
    make_pre, normalizer, ignore_merges = BYTE_LEVEL[name]
    ids = {token: i for i, token in enumerate(vocab.tokens)}
    tokenizer = Tokenizer(models.BPE(ids, [tuple(m.split(" ")) for m in vocab.merges],
                                     ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = make_pre()
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer()
    # User-defined tokens are found in ordinary text, control tokens are not.
    tokenizer.add_tokens([AddedToken(t, normalized=False)
                          for t, k in zip(vocab.tokens, vocab.kinds) if k == 4])
    return lambda texts: [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]


def gpt2_bytes():
    keep = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    table, n = {chr(b): b for b in keep}, 0
    for b in range(256):
        if b not in keep:
            table[chr(256 + n)] = b
            n += 1
    return table


def tik_token(name, pattern, vocab):
    """tiktoken merges by the rank of the product, so ids must be in merge order."""
    table = gpt2_bytes()
    ranks = {bytes(table[c] for c in token): i
             for i, (token, kind) in enumerate(zip(vocab.tokens, vocab.kinds)) if kind == 1}
    encoding = tiktoken.Encoding(name=name, pat_str=pattern, mergeable_ranks=ranks,
                                 special_tokens={})
    return lambda texts: [encoding.encode(t, disallowed_special=()) for t in texts]


def word_piece(vocab):
    # As in the file: a piece that begins a word has U+2581 in front, others nothing.
    ids = {}
    for i, (token, kind) in enumerate(zip(vocab.tokens, vocab.kinds)):
        if kind == 3:
            ids[token] = i
        else:
            ids[token[1:] if token.startswith("▁") else "##" + token] = i
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(True, True, None, True)
    tokenizer.pre_tokenizer = pre.BertPreTokenizer()
    return lambda texts: [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]


# ---- SentencePiece model files, by hand: protobuf wire format ----

def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, wire, payload):
    return varint(number << 3 | wire) + (varint(len(payload)) + payload if wire == 2 else payload)


def sentence_piece_model(vocab, model_type, byte_fallback, remove_extra):
    import struct
    out = b""
    for token, score, kind in zip(vocab.tokens, vocab.scores, vocab.kinds):
        piece = field(1, 2, token.encode()) + field(2, 5, struct.pack("<f", score))
        out += field(1, 2, piece + field(3, 0, varint(kind)))
    trainer = field(3, 0, varint(model_type)) + field(35, 0, varint(int(byte_fallback)))
    unk = vocab.kinds.index(2)
    trainer += field(40, 0, varint(unk))
    normalizer = (field(1, 2, b"identity") + field(3, 0, varint(1)) +
                  field(4, 0, varint(int(remove_extra))) + field(5, 0, varint(1)))
    return out + field(2, 2, trainer) + field(3, 2, normalizer)


def sentence_piece(vocab):
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(sentence_piece_model(vocab, 2, True, False))
    return lambda texts: processor.encode(texts)


def trained(directory, texts, model_type, rule, byte_fallback):
    """Trains a small model, writes it to GGUF, returns the path and the original."""
    prefix = os.path.join(directory, f"{model_type}-{rule}-{byte_fallback}")
    lines = [line for t in texts[:2000] for line in t.split("\n") if 0 < len(line) < 2000]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=prefix, vocab_size=8000,
        model_type=model_type, normalization_rule_name=rule, byte_fallback=byte_fallback,
        character_coverage=0.995, minloglevel=2, num_threads=2, hard_vocab_limit=False)
    processor = sentencepiece.SentencePieceProcessor(model_file=prefix + ".model")
    charsmap = charsmap_of(prefix + ".model")
    writer = gguf.GGUFWriter(prefix + ".gguf", "none")
    size = processor.get_piece_size()
    writer.add_tokenizer_model("t5" if model_type == "unigram" else "llama")
    writer.add_token_list([processor.id_to_piece(i).encode() for i in range(size)])
    writer.add_token_scores([processor.get_score(i) for i in range(size)])
    kinds = []
    for i in range(size):
        kinds.append(2 if processor.is_unknown(i) else 3 if processor.is_control(i)
                     else 6 if processor.is_byte(i) else 1)
    writer.add_token_types(kinds)
    writer.add_unk_token_id(processor.unk_id())
    writer.add_bos_token_id(processor.bos_id())
    writer.add_eos_token_id(processor.eos_id())
    writer.add_remove_extra_whitespaces(True)
    writer.add_add_space_prefix(True)
    if charsmap:
        writer.add_precompiled_charsmap(charsmap)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return prefix + ".gguf", lambda batch: processor.encode(batch)


def charsmap_of(path):
    """NormalizerSpec.precompiled_charsmap of a model file."""
    def fields(data):
        at = 0

        def number():
            nonlocal at
            value = shift = 0
            while True:
                byte = data[at]
                at += 1
                value |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    return value
        while at < len(data):
            key = number()
            if key & 7 == 0:
                yield key >> 3, number()
            elif key & 7 == 2:
                size = number()
                yield key >> 3, data[at:at + size]
                at += size
            else:
                at += 4 if key & 7 == 5 else 8
                yield key >> 3, None
    with open(path, "rb") as file:
        for number, value in fields(file.read()):
            if number == 3:
                return next((v for n, v in fields(value) if n == 2), b"")
    return b""


def hf_unigram(path, byte_fallback):
    """The same model in Hugging Face's implementation, as T5's converted file has it."""
    vocab = Vocab(path)
    tokenizer = Tokenizer(models.Unigram(list(zip(vocab.tokens, vocab.scores)),
                                         vocab.kinds.index(2), byte_fallback))
    steps = [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre.Metaspace(replacement="▁", prepend_scheme="always", split=False)
    return lambda texts: [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]


# ---- comparing ----

def tied(scores):
    """Two segmentations with the same score: floats and doubles break ties apart."""
    def same(a, b):
        return abs(sum(scores[i] for i in a) - sum(scores[i] for i in b)) < 1e-3
    return same


def compare(name, path, original, texts, same=None):
    expected, got = original(texts), watt(path, texts)
    wrong = [(t, e, g) for t, e, g in zip(texts, expected, got)
             if list(e) != g and not (same and same(e, g))]
    for text, e, g in wrong[:5]:
        print(f"{name}: {text!r}\n  original {list(e)}\n  watt     {g}")
    print(f"{name}: {len(texts) - len(wrong)} of {len(texts)} texts as the original")
    return got, len(wrong)


def main():
    if not os.path.isdir(TABLE):
        print("skipped: no shared data")
        sys.exit(77)
    corpora = []
    for corpus in ("war-and-peace.txt", "tinyshakespeare.txt"):
        file = os.path.join(SHARED, "corpora", corpus)
        if os.path.exists(file):
            corpora.append(open(file, encoding="utf-8", errors="ignore").read())
    for extra in ("README.md", "src/models/tokenizer.c"):
        if os.path.exists(extra):
            corpora.append(open(extra, encoding="utf-8").read())
    texts = make_texts(TEXTS, corpora)
    wrong = pairs = 0

    def run(name, path, original, sample=texts, same=None):
        nonlocal wrong, pairs
        got, bad = compare(name, path, original, sample, same)
        wrong += bad
        pairs += len(sample)
        return got

    for name in BYTE_LEVEL:
        path = os.path.join(TABLE, f"ggml-vocab-{name}.gguf")
        vocab = Vocab(path)
        got = run(name, path, hugging_face(name, vocab))
        want = texts if name != "qwen2" else [unicodedata.normalize("NFC", t) for t in texts]
        back = watt_decode(path, got)
        lost = sum(b != w.encode() for b, w in zip(back, want))
        print(f"{name}: {len(texts) - lost} of {len(texts)} texts come back")
        wrong += lost
        if name in ("llama-bpe", "gpt-4o"):
            run(name + " (tiktoken)", path,
                tik_token(name, LLAMA3 if name == "llama-bpe" else GPT4O, vocab))
    path = os.path.join(TABLE, "ggml-vocab-bert-bge.gguf")
    run("bert-bge", path, word_piece(Vocab(path)))
    path = os.path.join(TABLE, "ggml-vocab-llama-spm.gguf")
    run("llama-spm", path, sentence_piece(Vocab(path)))
    with tempfile.TemporaryDirectory() as directory:
        for model_type, rule, fallback in (("unigram", "nmt_nfkc", False),
                                           ("unigram", "identity", True),
                                           ("unigram", "nmt_nfkc_cf", True),
                                           ("bpe", "nmt_nfkc", True),
                                           ("bpe", "identity", False)):
            path, original = trained(directory, texts, model_type, rule, fallback)
            what = f"trained {model_type} {rule}{' bytes' if fallback else ''}"
            if model_type == "bpe":
                run(what, path, original)
                continue
            run(what, path, original, same=tied(Vocab(path).scores))
            if rule != "identity":      # theirs maps whole grapheme clusters, not prefixes
                continue
            # Theirs takes spellings of control tokens and only some white space as such.
            plain = [t for t in texts if not set("▁<") & set(t) and t == t.strip() and
                     t.isprintable()]
            run(what + " (Hugging Face)", path, hf_unigram(path, fallback), plain)
    print(f"{pairs - wrong} of {pairs} encodings equal the originals'")
    sys.exit(wrong > 0)


main()
