#!/usr/bin/env python3
# quants.py: the error of our quantisers beside other people's. Writes matrices of normal,
# Laplace and Student-t numbers (and a trained model's, where the shared data is) to a
# file, runs `watt quantize --pure` on it, reads the result with the gguf package, and
# compares: with the package's own quantisers where it has them, else with the errors that
# the public C quantisers made on the same numbers, the best of with and without
# importance weights of 1 (ggml, commit d99724f2). Ours may be 1.02 times the other's.
# requires: gguf numpy
import os
import subprocess
import sys
import tempfile

try:
    import gguf
    import numpy as np
    from gguf.quants import dequantize, quantize
except ImportError as e:
    print("no gguf package:", e)
    sys.exit(77)

LIMIT = 1.02
ROWS, COLUMNS = 128, 2048

# Relative root-mean-square errors of the public C quantisers on numbers().
PUBLIC = {
    "Q8_0": {"normal": 0.005348, "laplace": 0.006703, "student-t3": 0.008498},
    "Q5_1": {"normal": 0.033764, "laplace": 0.039948, "student-t3": 0.043827},
    "Q5_0": {"normal": 0.040400, "laplace": 0.051535, "student-t3": 0.064525},
    "Q4_1": {"normal": 0.069806, "laplace": 0.082634, "student-t3": 0.089507},
    "Q4_0": {"normal": 0.081580, "laplace": 0.103142, "student-t3": 0.124751},
    "Q6_K": {"normal": 0.017338, "laplace": 0.021189, "student-t3": 0.025052},
    "Q5_K": {"normal": 0.035329, "laplace": 0.042002, "student-t3": 0.046290},
    "Q4_K": {"normal": 0.070682, "laplace": 0.083897, "student-t3": 0.091285},
    "Q3_K": {"normal": 0.144328, "laplace": 0.169275, "student-t3": 0.183526},
    "Q2_K": {"normal": 0.267872, "laplace": 0.300544, "student-t3": 0.301347},
    "IQ4_NL": {"normal": 0.074944, "laplace": 0.085997, "student-t3": 0.099361},
    "IQ4_XS": {"normal": 0.075651, "laplace": 0.086844, "student-t3": 0.100924},
    "MXFP4": {"normal": 0.114219, "laplace": 0.126093, "student-t3": 0.143348},
    "NVFP4": {"normal": 0.103057, "laplace": 0.096810, "student-t3": 0.092900},
}
TYPES = ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "IQ4_NL",
         "IQ4_XS", "MXFP4", "NVFP4", "TQ1_0", "TQ2_0", "BF16", "F16"]
MIXES = {"Q5_K": "Q5_K_S", "Q4_K": "Q4_K_S", "Q3_K": "Q3_K_S"}


def numbers():
    """The same on every machine: from raw bits, not from a library's distributions."""
    def uniform(seed):
        raw = np.random.PCG64(seed).random_raw(ROWS * COLUMNS)
        return ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0 ** -53

    def normal(seed):
        return np.sqrt(-2 * np.log(uniform(seed))) * np.cos(2 * np.pi * uniform(seed + 1))

    u = uniform(20)
    chi2 = normal(30) ** 2 + normal(32) ** 2 + normal(34) ** 2
    made = {
        "normal": normal(10),
        "laplace": np.where(u < 0.5, np.log(2 * u), -np.log(2 - 2 * u)),
        "student-t3": normal(40) / np.sqrt(chi2 / 3),
    }
    return {k: (0.02 * v).astype(np.float32).reshape(ROWS, COLUMNS) for k, v in made.items()}


def trained():
    path = os.path.join(os.environ.get("WATT_SHARED", ""), "models/stories260K-f32.gguf")
    if not os.path.exists(path):
        return {}
    flat = np.concatenate([np.asarray(t.data, np.float32).ravel()
                           for t in gguf.GGUFReader(path).tensors if len(t.shape) > 1])
    return {"stories260K": flat[:flat.size // COLUMNS * COLUMNS].reshape(-1, COLUMNS)}


def error(x, y):
    x, y = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    return float(np.sqrt(((x - y) ** 2).sum() / (x ** 2).sum()))


def write(path, data):
    w = gguf.GGUFWriter(path, "llama")
    for name, x in data.items():
        w.add_tensor(name + ".weight", x)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    watt = os.path.abspath(os.environ.get("WATT", "build/watt"))
    data = {**numbers(), **trained()}
    worst, failed, compared = 0.0, [], 0
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "in.gguf"), os.path.join(folder, "out.gguf")
        write(source, data)
        for name in TYPES:
            kind = getattr(gguf.GGMLQuantizationType, name)
            subprocess.run([watt, "quantize", "--pure", source, target, MIXES.get(name, name)],
                           check=True, stdout=subprocess.DEVNULL)
            read = {t.name[:-len(".weight")]: t for t in gguf.GGUFReader(target).tensors}
            for which, x in data.items():
                assert read[which].tensor_type == kind, (name, which, read[which].tensor_type)
                ours = error(x, dequantize(read[which].data, kind))
                others = [v[which] for k, v in PUBLIC.items() if k == name and which in v]
                try:
                    others.append(error(x, dequantize(quantize(x, kind), kind)))
                except NotImplementedError:
                    pass
                if not others:
                    continue
                ratio = ours / min(others)
                compared += 1
                worst = max(worst, ratio)
                print(f"{name:7} {which:12} ours {ours:.5f}  public {min(others):.5f}  "
                      f"ratio {ratio:.4f}")
                if ratio > LIMIT:
                    failed.append((name, which, ratio))
    if failed:
        print("worse than", LIMIT, "times the public quantiser:", failed)
        return 1
    print(f"{compared} comparisons, the worst at {worst:.4f} of the public quantiser's error")
    return 0


sys.exit(main())
