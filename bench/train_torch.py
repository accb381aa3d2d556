#!/usr/bin/env python3
"""bench/train_torch.py LAYERS WIDTH HEADS VOCAB STREAMS ROWS [f32|bf16 [THREADS [STEPS [eager|compiled]]]]: the
time of forward and backward of bench_train's GPT-2 in PyTorch, in seconds on the clock and of processor time.
compiled: by torch.compile, which writes C++: it needs g++ (or CXX) and Python's headers, and the warm-up takes a
minute (kept in TORCHINDUCTOR_CACHE_DIR)."""
import os
import resource
import shutil
import sys
import sysconfig
import time

if not 7 <= len(sys.argv) <= 11 or not all(x.isdigit() for x in sys.argv[1:7]):
    sys.exit(__doc__)

import torch
import torch.nn.functional as F
from torch import nn

layers, width, heads, vocab, streams, rows = (int(x) for x in sys.argv[1:7])
half, threads, steps, mode = (sys.argv[7:] + ["f32", "2", "3", "eager"][len(sys.argv) - 7:])[:4]

if mode not in ("eager", "compiled") or half not in ("f32", "bf16"):
    sys.exit(f"train_torch.py: {half} {mode}: must be f32 or bf16, and eager or compiled")
if mode == "compiled" and not shutil.which(os.environ.get("CXX", "g++")):
    sys.exit("train_torch.py: compiled needs a C++ compiler: install g++, or name one in CXX")
if mode == "compiled" and not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
    sys.exit(f"train_torch.py: compiled needs Python's headers: there is no {sysconfig.get_paths()['include']}/Python.h"
             " (python3-dev)")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = (t.view(b, n, heads, -1).transpose(1, 2) for t in self.qkv(self.norm1(x)).split(width, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, n, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, width), nn.Embedding(rows, width)
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids, target):
        x = self.tokens(ids) + self.positions(torch.arange(rows))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.view(-1, vocab), target.view(-1))


def processor():
    r = resource.getrusage(resource.RUSAGE_SELF)
    return r.ru_utime + r.ru_stime


torch.set_num_threads(int(threads))
torch.manual_seed(1)
model = Model()
run = torch.compile(model) if mode == "compiled" else model
ids, target = (torch.randint(vocab, (streams, rows)) for _ in range(2))
for step in range(int(steps) + 1):          # the first one warms up
    model.zero_grad(set_to_none=True)
    wall, cpu = time.perf_counter(), processor()
    with torch.autocast("cpu", torch.bfloat16, enabled=half == "bf16"):
        loss = run(ids, target)
    loss.backward()
    print(f"{'warm-up' if step == 0 else 'step'} {time.perf_counter() - wall:.3f} s, "
          f"{processor() - cpu:.3f} s of processor time", flush=True)
