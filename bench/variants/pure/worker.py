"""pymicrogpt/reference.py behind the protocol of bench/task/problem.py: what CPython and PyPy run.

    python worker.py [--no-gc] PROBLEM_FILE

Standard library only. --no-gc turns the cyclic garbage collector off, as a user might.
"""

import array
import gc
import importlib.util
import json
import os
import platform
import struct
import sys
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), *3 * [os.pardir]))
REFERENCE = os.path.join(ROOT, "pymicrogpt", "reference.py")


def load_reference():
    """The file by its path: importing pymicrogpt would need NumPy and the extension."""
    spec = importlib.util.spec_from_file_location("reference", REFERENCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_array(file, code, count):
    values = array.array(code)
    values.fromfile(file, count)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def read_model(path, reference):
    with open(path, "rb") as file:
        if file.read(8) != b"MGPTPROB":
            raise SystemExit(f"{path} is not a problem file")
        header = struct.unpack("<10q", file.read(80))
        n_layer, c, n_head, block_size, vocab_size, batch_size, num_steps = header[:7]
        num_docs, num_tokens, num_params = header[7:]
        learning_rate, beta1, beta2, eps = struct.unpack("<4d", file.read(32))
        offsets = read_array(file, "q", num_docs + 1)
        tokens = read_array(file, "i", num_tokens)
        file.read(-4 * num_tokens % 8)
        flat = iter(read_array(file, "d", num_params))

    shapes = {"wte": (vocab_size, c), "wpe": (block_size, c), "lm_head": (vocab_size, c)}
    for i in range(n_layer):
        for name in ("attn_wq", "attn_wk", "attn_wv", "attn_wo"):
            shapes[f"layer{i}.{name}"] = (c, c)
        shapes[f"layer{i}.mlp_fc1"] = (4 * c, c)
        shapes[f"layer{i}.mlp_fc2"] = (c, 4 * c)
    tensors = {
        name: [[next(flat) for _ in range(cols)] for _ in range(rows)]
        for name, (rows, cols) in shapes.items()
    }
    return reference.Reference(
        [list(tokens[offsets[d] : offsets[d + 1]]) for d in range(num_docs)],
        tensors,
        n_head=n_head,
        batch_size=batch_size,
        learning_rate=learning_rate,
        num_steps=num_steps,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
    )


def answer(model, request):
    if request == ["gradients"]:
        return {"loss": model.gradient(), "gradients": [p.grad for p in model.params]}
    if request == ["parameters"]:
        return {"parameters": [p.data for p in model.params]}
    if len(request) == 2 and request[0] == "run":
        start = time.perf_counter()
        losses = [model.step() for _ in range(int(request[1]))]
        return {"losses": losses, "seconds": time.perf_counter() - start}
    raise SystemExit(f"unknown request {' '.join(request)!r}")


def main():
    if "--no-gc" in sys.argv:
        gc.disable()
    model = read_model(sys.argv[-1], load_reference())
    version = platform.python_version()
    if platform.python_implementation() == "PyPy":
        version += " (PyPy {}.{}.{})".format(*sys.pypy_version_info[:3])
    ready = {"ready": True, "name": "reference.py", "compiler": f"Python {version}"}
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        print(json.dumps(answer(model, line.split())), flush=True)


if __name__ == "__main__":
    main()
