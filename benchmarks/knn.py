"""Time and peak memory of kNN, beside scikit-learn's and faiss's, in one run.

    python benchmarks/knn.py [--out results/knn.json] [--queries 10000] [--bank 50000] [--rounds 3] [--threads 2]

Classifies 10,000 features of length 512 by the 200 nearest of 50,000, weighted by exp(cosine / 0.1). Each measurement is a
process of its own: it warms up on a few features, makes the features, resets the kernel's high-water mark, and reports how
far memory rose above what it then held, from fit to prediction. The three take turns, `--rounds` times, so that a busy
machine slows all of them. Afterwards all three answer the first queries in one process, which says whether they agree.
Measurements that the file already holds are kept, unless hardware or versions changed or `--again` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from torch.nn import functional as F

from unlabeled.probes.knn import KNN

DIM, CLASSES, K, T, COMPARED = 512, 10, 200, 0.1, 1000

Answer = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def features(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Overlapping clusters: (n, DIM) float32 and labels (n,)."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (n,), generator=generator)
    centres = torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(99))
    return centres[y] + 8 * torch.randn(n, DIM, generator=generator), y


def unlabeled(h: Tensor, y: Tensor, query: Tensor, *, neighbours: bool = False) -> Answer:
    knn = KNN(k=K, temperature=T).fit(h, y)
    found = torch.cat([knn.neighbours(tile)[1] for tile in torch.split(query, 256)]) if neighbours else torch.empty(0)
    return knn.predict(query).numpy(), found.numpy()


def scikit_learn(h: Tensor, y: Tensor, query: Tensor, *, neighbours: bool = False) -> Answer:
    def weights(distance: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.asarray(np.exp((1 - distance) / T))

    knn = KNeighborsClassifier(K, algorithm="brute", metric="cosine", weights=weights).fit(h.numpy(), y.numpy())
    found = knn.kneighbors(query.numpy(), return_distance=False) if neighbours else np.empty(0)
    return knn.predict(query.numpy()), found


def by_faiss(h: Tensor, y: Tensor, query: Tensor, *, neighbours: bool = False) -> Answer:
    index = faiss.IndexFlatIP(DIM)
    index.add(F.normalize(h, dim=1).numpy())
    cosine, found = index.search(F.normalize(query, dim=1).numpy(), K)
    votes = np.zeros((len(query), CLASSES))
    np.add.at(votes, (np.arange(len(query))[:, None], y.numpy()[found]), np.exp(cosine / T))
    return votes.argmax(1), found


BY = {"unlabeled": unlabeled, "scikit-learn": scikit_learn, "faiss": by_faiss}


def memory(field: str) -> float:
    """VmRSS or VmHWM of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def measure(by: str, queries: int, bank: int) -> dict[str, float]:
    """One fit and prediction, in this process."""
    BY[by](*features(2 * K, 2), features(10, 3)[0])
    (h, y), (query, labels) = features(bank, 0), features(queries, 1)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts from here
    before = memory("VmRSS")
    clock, processor = time.perf_counter(), time.process_time()
    predicted, _ = BY[by](h, y, query)
    processor, clock = time.process_time() - processor, time.perf_counter() - clock
    return {
        "seconds": round(clock, 3),
        "processor_seconds": round(processor, 3),
        "peak_mib": round(memory("VmHWM") - before, 1),
        "top1": float((predicted == labels.numpy()).mean()),
    }


def agreement(queries: int, bank: int) -> dict[str, dict[str, float]]:
    """Beside ours, the share of queries with the same answer, and of neighbours that are the same, in any order."""
    (h, y), query = features(bank, 0), features(queries, 1)[0][:COMPARED]
    answers = {by: function(h, y, query, neighbours=True) for by, function in BY.items()}
    own, near = answers.pop("unlabeled")
    return {
        by: {
            "same_answer": float((predicted == own).mean()),
            "same_neighbours": statistics.fmean(len(np.intersect1d(a, b)) / K for a, b in zip(found, near, strict=True)),
        }
        for by, (predicted, found) in answers.items()
    }


def apart(job: dict[str, Any], threads: int) -> dict[str, Any]:
    """The job in a process of its own; what stopped it, if something did."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    words = [sys.executable, __file__, "--job", json.dumps(job), "--threads", str(threads)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    return {"stopped": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][-200:]}


def machine(threads: int) -> dict[str, Any]:
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in facts if line.startswith("model name")), "")
    versions = {name: metadata.version(name) for name in ("torch", "scikit-learn", "faiss-cpu", "numpy")}
    about = {"processor": model or platform.processor(), "used_cores": len(os.sched_getaffinity(0)), "threads": threads}
    return about | {"python": platform.python_version()} | versions


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over the rounds of what did not stop."""
    done = [row for row in rows if "by" in row["job"] and "stopped" not in row["result"]]
    groups = {(row["job"]["by"], row["job"]["queries"], row["job"]["bank"]): [] for row in done}
    for row in done:
        groups[row["job"]["by"], row["job"]["queries"], row["job"]["bank"]].append(row["result"])
    return [
        {"by": by, "queries": queries, "bank": bank, "rounds": len(results)}
        | {name: statistics.median(r[name] for r in results) for name in results[0]}
        for (by, queries, bank), results in groups.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--bank", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--note", default="", help="what else the machine was doing")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = {"queries": arguments.queries, "bank": arguments.bank}
    if arguments.job:
        torch.set_num_threads(arguments.threads)
        faiss.omp_set_num_threads(arguments.threads)
        job = json.loads(arguments.job)
        size = job["queries"], job["bank"]
        print(json.dumps(measure(job["by"], *size) if "by" in job else agreement(*size)))
        return
    report: dict[str, Any] = {"machine": machine(arguments.threads), "rows": []}
    if arguments.out and arguments.out.exists() and not arguments.again:
        old = json.loads(arguments.out.read_text())
        report["rows"] = old["rows"] if old["machine"] == report["machine"] else []
    report |= {"dim": DIM, "classes": CLASSES, "k": K, "temperature": T, "compared": COMPARED, "note": arguments.note}
    report["load_at_start"] = [round(x, 2) for x in os.getloadavg()]
    jobs: list[dict[str, Any]] = [{"by": by, "round": turn} | sizes for turn in range(arguments.rounds) for by in BY]
    known = [row["job"] for row in report["rows"]]
    for job in (j for j in [*jobs, {"agreement": True} | sizes] if j not in known):
        report["rows"].append({"job": job, "result": apart(job, arguments.threads)})
        print(json.dumps(report["rows"][-1]), file=sys.stderr, flush=True)
        report["summary"] = summary(report["rows"])
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{'by':16}{'queries':>9}{'bank':>9}{'s':>9}{'processor s':>13}{'peak MiB':>10}{'top-1':>8}")
    for row in summary(report["rows"]):
        print(
            f"{row['by']:16}{row['queries']:9}{row['bank']:9}{row['seconds']:9.2f}{row['processor_seconds']:13.2f}"
            f"{row['peak_mib']:10.1f}{row['top1']:8.4f}"
        )


if __name__ == "__main__":
    main()
