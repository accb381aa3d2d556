#!/usr/bin/env python3
"""Compares the tokenizers of Hugging Face folders with the `tokenizers` package.

Tokenizers of every kind are trained here on the shared corpora (or on this file) and saved as
tokenizer.json, one SentencePiece model as tokenizer.model: `watt tokenize` on their folders must give
the originals' ids, for ordinary texts and for edge cases.

WATT names the program under test, WATT_SHARED the shared data.
"""
# requires: tokenizers sentencepiece
import json
import os
import random
import subprocess
import sys
import tempfile

sys.path.pop(0)     # this file's folder: it has a file of a package's name

try:
    import sentencepiece
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors
    from tokenizers import pre_tokenizers as pre
    from tokenizers import trainers
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

WATT = os.environ.get("WATT", "build/watt")
SHARED = os.environ.get("WATT_SHARED", "../shared/data")


def read_corpus():
    folder = os.path.join(SHARED, "corpora")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    path = next((os.path.join(folder, n) for n in names if n.endswith(".txt")), __file__)
    with open(path, errors="replace") as f:
        lines = list(f)[:4000]
    return lines + ["Grüße aus München, naïve café 中文字符 日本語 한국어 русский 12345 6789\n"] * 30


CORPUS = read_corpus()
EDGES = ["Hello world", "  two  spaces ", "", "\n\n x\t\r\n", "don't I'LL 1234567 89",
         "Grüße naïve café", "中文字符 日本語", "한국어 русский", "😀 e\u0301 ñ",
         "<tool>call</tool> a [X] b", "<|im_start|>user", "<s> hi", "a" * 50 + " " * 20,
         "fi ﬁ Ⅷ ½", "foo_bar.baz(qux)[0]=='x'; // c"]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
NAMELESS = r"\p{Lu}\p{Ll}+|\p{L}+|\d{1,2}|\s+|[^\s\p{L}\d]+"


def around(tokenizer, first, last=None):
    single = f"{first} $A" + (f" {last}" if last else "")
    return processors.TemplateProcessing(
        single=single, special_tokens=[(x, tokenizer.token_to_id(x)) for x in (first, last) if x])


def split(pattern):
    return pre.Sequence([pre.Split(Regex(pattern), "isolated"),
                         pre.ByteLevel(add_prefix_space=False, use_regex=False)])


def byte_level(stages, norm=None, ignore_merges=False, post=None,
               special=("<|endoftext|>", "<|im_start|>", "<|im_end|>")):
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    t.pre_tokenizer = stages
    if norm:
        t.normalizer = norm
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=800, special_tokens=list(special), show_progress=False,
        initial_alphabet=pre.ByteLevel.alphabet()))
    t.add_tokens([AddedToken("<tool>", normalized=False),
                  AddedToken(" [X] ", lstrip=True, rstrip=True, normalized=False)])
    if post:
        t.post_processor = post(t)
    return t


def sentencepiece_bpe(prefix):
    """As Llama 2 (a space in front) and Gemma have it, with byte fallback."""
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.normalizer = normalizers.Sequence(([normalizers.Prepend("▁")] if prefix else []) +
                                        [normalizers.Replace(" ", "▁")])
    t.pre_tokenizer = pre.Metaspace(prepend_scheme="never", split=True)
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=900, show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]))
    saved = json.loads(t.to_str())
    saved["model"].update(byte_fallback=True, fuse_unk=True)
    saved["pre_tokenizer"] = None
    saved["added_tokens"] = [a for a in saved["added_tokens"] if not a["content"].startswith("<0x")]
    t = Tokenizer.from_str(json.dumps(saved))
    t.post_processor = around(t, "<s>")
    return t


def unigram():
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.Strip(left=False, right=True),
                                         normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre.Metaspace()
    t.train_from_iterator(CORPUS, trainers.UnigramTrainer(
        vocab_size=700, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>",
        show_progress=False))
    t.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return t


def wordpiece(lowercase):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    t.pre_tokenizer = pre.BertPreTokenizer()
    t.train_from_iterator(CORPUS, trainers.WordPieceTrainer(
        vocab_size=900, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        show_progress=False))
    t.post_processor = around(t, "[CLS]", "[SEP]")
    return t


PLAIN = pre.ByteLevel(add_prefix_space=False)
KINDS = {
    "gpt-2": lambda: byte_level(PLAIN),
    "llama-3": lambda: byte_level(split(LLAMA3), None, True, lambda t: processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), around(t, "<|endoftext|>")])),
    "qwen-2": lambda: byte_level(split(QWEN2), normalizers.NFC()),
    "starcoder": lambda: byte_level(pre.Sequence([pre.Digits(individual_digits=True), PLAIN])),
    "nameless": lambda: byte_level(split(NAMELESS)),
    "modernbert": lambda: byte_level(PLAIN, normalizers.NFC(), False,
                                     lambda t: around(t, "[CLS]", "[SEP]"),
                                     ("[CLS]", "[SEP]", "[MASK]", "[PAD]")),
    "llama-2": lambda: sentencepiece_bpe(True),
    "gemma": lambda: sentencepiece_bpe(False),
    "unigram": unigram,
    "bert": lambda: wordpiece(True),
    "bert-cased": lambda: wordpiece(False),
}


def write_config(folder, n_vocab):
    with open(folder + "/config.json", "w") as f:
        json.dump(dict(architectures=["LlamaForCausalLM"], vocab_size=n_vocab, hidden_size=64,
                       num_hidden_layers=1, num_attention_heads=4), f)


def compare(name, folder, texts, encode):
    done = subprocess.run([WATT, "tokenize", folder, "--parse-special", "-z", "-"],
                          input="\0".join(texts).encode(), capture_output=True)
    if done.returncode:
        print(f"{name}: FAILED: {done.stderr.decode().strip()}")
        return False
    bad = 0
    for text, line in zip(texts, done.stdout.decode().split("\n")):
        if [int(x) for x in line.split()] != encode(text):
            bad += 1
            if bad == 1:
                print(f"  {text!r}\n  expected {encode(text)[:24]}\n  found    {line[:120]}")
    print(f"{name}: {len(texts)} texts, {bad} differ")
    return bad == 0


def main():
    rnd = random.Random(5)
    texts = EDGES + ["".join(rnd.choice(CORPUS) for _ in range(2)) for _ in range(200)]
    good, n = True, 0
    with tempfile.TemporaryDirectory() as top:
        for name, make in KINDS.items():
            folder = os.path.join(top, name)
            os.mkdir(folder)
            t = make()
            t.save(folder + "/tokenizer.json")
            write_config(folder, t.get_vocab_size())
            # Strip is for white space of every kind, which SentencePiece's own map makes spaces
            these = [" ".join(x.splitlines()).replace("\t", " ") for x in texts]
            good &= compare(name, folder, these if name == "unigram" else texts,
                            lambda x: t.encode(x).ids)
            n += 1
        for kind in ("bpe", "unigram"):
            folder = os.path.join(top, "sp-" + kind)
            os.mkdir(folder)
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(x.strip() for x in CORPUS), vocab_size=700, minloglevel=2,
                model_prefix=folder + "/tokenizer", model_type=kind, byte_fallback=True,
                normalization_rule_name="identity", remove_extra_whitespaces=False)
            sp = sentencepiece.SentencePieceProcessor(model_file=folder + "/tokenizer.model")
            write_config(folder, sp.vocab_size())
            tail = [sp.eos_id()] if kind == "unigram" else []
            head = [sp.bos_id()] if kind == "bpe" else []
            plain = [x for x in texts if "<s>" not in x and "</s>" not in x]
            good &= compare("tokenizer.model " + kind, folder, plain,
                            lambda x: head + sp.encode(x) + tail)
            n += 1
    print(f"{n} tokenizers, {len(texts)} texts each: {'the same ids' if good else 'ids differ'}")
    return 0 if good else 1


sys.exit(main())
