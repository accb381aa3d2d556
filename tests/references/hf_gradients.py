#!/usr/bin/env python3
"""Compares gradients with those that PyTorch's autograd gives transformers' own models in float64.

Tiny random models of hf_models.py are written as GGUF by `watt convert`; a tensor there is known by
its numbers: they are a parameter's, that of several stacked, or a parameter's plus one. Two sequences
of different lengths lie in one batch; every gradient within LIMIT of its largest number.

WATT names the program under test, TRAIN_GRADIENTS that which writes gradients, by default the one
beside it. Arguments are families to try.
"""
# requires: torch transformers numpy safetensors gguf
import copy
import importlib.util
import os
import struct
import subprocess
import sys
import tempfile

here = sys.path.pop(0)  # this file's folder: it has a file of a package's name

try:
    import gguf
    import numpy as np
    import torch
    import transformers  # noqa: F401
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

spec = importlib.util.spec_from_file_location("hf_models", os.path.join(here, "hf_models.py"))
sys.path.insert(0, here)    # which that one takes away again
models = importlib.util.module_from_spec(spec)
spec.loader.exec_module(models)

PROGRAM = os.environ.get("TRAIN_GRADIENTS",
                         os.path.join(os.path.dirname(models.WATT), "tests", "train_gradients"))
FAMILIES = ["apertus", "gemma-3n", "gemma-3", "qwen3", "qwen2", "olmo-2", "gemma-2", "exaone-4", "nemotron"]
LIMIT = 1e-4        # Gemma 3n: its streams magnify roundings, others are near 2e-6
LENGTHS = (19, 33)


def autograd(model, sequences):
    """The loss, and each parameter with its gradient, in float64."""
    model = copy.deepcopy(model).double()
    to_float, torch.Tensor.float = torch.Tensor.float, lambda x: x      # norms ask for F32
    try:
        loss = 0
        for ids in sequences:
            y = model(input_ids=torch.tensor([ids])).logits[0]
            loss = loss + torch.nn.functional.cross_entropy(y[:-1], torch.tensor(ids[1:]), reduction="sum")
        loss.backward()
    finally:
        torch.Tensor.float = to_float
    return loss.item(), {n: (p.detach().numpy(), p.grad.numpy()) for n, p in model.named_parameters()}


def ours(path, sequences):
    out = path + ".gradients"
    subprocess.run([PROGRAM, path, out, "f32", "0", ",".join(str(len(s)) for s in sequences),
                    ",".join(str(i) for s in sequences for i in s)], check=True)
    raw = open(out, "rb").read()
    loss, at, found = struct.unpack("<d", raw[:8])[0], 16, {}
    while at < len(raw):
        n, = struct.unpack_from("<I", raw, at)
        name = raw[at + 4:at + 4 + n].decode()
        count, = struct.unpack_from("<Q", raw, at + 4 + n)
        at += 12 + n
        found[name] = np.frombuffer(raw, np.float32, count, at)
        at += 4 * count
    return loss, found


def same(x, y):
    return x.shape == y.shape and np.allclose(x, y, rtol=1e-6, atol=1e-7)


def wanted(name, x, params):
    """The gradient of a tensor of the file."""
    for p, g in params.values():
        if same(p, x) or same(p + 1, x):
            return g
        if x.ndim == 2 and p.ndim == 2 and p.shape[1] == x.shape[1] and len(p) < len(x) and \
                same(p, x[:len(p)]) and all(same(p[0], row) for row in x[len(p):]):
            return g            # filled up with the first row
    if x.ndim == 3:
        return np.stack([wanted(name, part, params) for part in x])
    raise RuntimeError(f"{name} is no parameter of the model")


def check(name, folder):
    generator = torch.Generator().manual_seed(5)
    sequences = [torch.randint(3, models.VOCAB, (n,), generator=generator).tolist() for n in LENGTHS]
    torch.manual_seed(7)
    model = models.FAMILIES[name]().float().eval()
    models.enliven(model)
    model.save_pretrained(folder)
    models.run("convert", folder, folder + "/out.gguf")
    want_loss, params = autograd(model, sequences)
    loss, found = ours(folder + "/out.gguf", sequences)
    data = {t.name: np.array(t.data, np.float64) for t in gguf.GGUFReader(folder + "/out.gguf").tensors}
    worst, where = abs(loss / want_loss - 1), "the loss"
    for tensor, got in found.items():
        want = wanted(tensor, data[tensor], params)
        got = got.astype(np.float64)
        if got.size > want.size:        # and that one is padding, which has no gradient there
            got, want = got.reshape(-1, want.shape[-1])[1:len(want)], want[1:]
        off = np.abs(got.ravel() - want.ravel()).max() / max(np.abs(want).max(), 1e-30)
        if off > worst:
            worst, where = off, tensor
    good = worst <= LIMIT
    print(f"{name:10} {len(found)} gradients, at most {worst:.1e} off ({where}){'' if good else '  FAILED'}", flush=True)
    return good


def main(names):
    bad = []
    with tempfile.TemporaryDirectory() as top:
        for name in names or FAMILIES:
            try:
                if not check(name, os.path.join(top, name)):
                    bad.append(name)
            except (RuntimeError, KeyError, subprocess.CalledProcessError) as error:
                print(f"{name:10} FAILED: {error}", flush=True)
                bad.append(name)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
