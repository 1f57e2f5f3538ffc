"""One side of bench.compare: trains with the build of pymicrogpt that its first line names.

It stands alone and uses nothing but the public surface, which both commits share. A line is
{"open": case}, answered by {"available": whether it runs here}, or {"run": steps}, answered by
{"seconds": ..., "positions": ...}. Whatever goes wrong is {"error": reason}.
"""

import json
import math
import sys
import time


class Session:
    """A training of one case."""

    def __init__(self, mg, corpus, engine, n_embd, batch, steps):
        config = mg.Config(n_embd=n_embd)
        self.trainer = mg.Trainer(
            corpus, config, engine=engine, batch_size=batch, num_steps=steps, threads=1
        )
        limit = config.block_size
        self.positions = [min(len(document) + 1, limit) for document in self.trainer.documents]
        self.batch = batch
        self.documents = 0

    def run(self, steps):
        start = time.perf_counter()
        losses = self.trainer.run(steps)
        seconds = time.perf_counter() - start
        if not math.isfinite(losses.sum()):
            raise ValueError("a loss is not finite")
        first, self.documents = self.documents, self.documents + steps * self.batch
        count = len(self.positions)
        positions = sum(self.positions[i % count] for i in range(first, self.documents))
        return {"seconds": seconds, "positions": positions}


def serve(reply):
    job = json.loads(sys.stdin.readline())
    sys.path[:] = [job["site"], *sys.path[1:], *job["packages"]]
    import pymicrogpt as mg

    if not mg.__file__.startswith(job["site"]):
        raise ImportError(f"pymicrogpt came from {mg.__file__} and not from {job['site']}")
    corpus = mg.Corpus.from_documents(job["documents"])
    available = {info.name for info in mg.engines() if info.available}
    reply({})
    session = None
    for line in sys.stdin:
        request = json.loads(line)
        if "run" in request:
            reply(session.run(request["run"]))
            continue
        here = request["open"]["engine"] in available
        session = Session(mg, corpus, **request["open"]) if here else None
        reply({"available": here})


def main():
    def reply(message):
        print(json.dumps(message), flush=True)

    try:
        serve(reply)
    except Exception as error:  # whatever the build raises is the reason
        reply({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
