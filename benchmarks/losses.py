"""Time and peak memory of the losses that work through tiles, beside the plain form and two peers, in one run.

    python benchmarks/losses.py [--out results/losses.json] [--peers build/peers] [--sizes 256 1024 4096] [--large 32768]

Forward and backward of N pairs of dimension 128 in float32. Each measurement is a process of its own: it warms up on a small
batch, makes its inputs, resets the kernel's high-water mark, and reports how far memory rose above what it then held. The
losses take turns, `--rounds` times, so that a busy machine slows all of them; seconds are of processor time and of the
clock. What needs more than `--limit` GiB or `--timeout` seconds is written down as such. Measurements that the file already
holds are kept, unless hardware or versions changed or `--again` is given.

The peers are packages in a folder of their own (`make bench` fills it), which only their processes see.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.losses import info_nce, nt_xent, supervised_contrastive

Loss = Callable[[Tensor, Tensor], Tensor]
T, DIM, CLASSES = 0.5, 128, 100


def plain_nt_xent(z1: Tensor, z2: Tensor) -> Tensor:
    z, n = F.normalize(torch.cat([z1, z2]), dim=1), len(z1)
    logits = (z @ z.T / T).fill_diagonal_(float("-inf"))
    return F.cross_entropy(logits, torch.arange(2 * n).roll(n))


def plain_info_nce(q: Tensor, k: Tensor) -> Tensor:
    return F.cross_entropy(F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / T, torch.arange(len(q)))


def plain_supervised(z1: Tensor, z2: Tensor) -> Tensor:
    z, labels = F.normalize(torch.cat([z1, z2]), dim=1), names(z1)
    logs = (z @ z.T / T).fill_diagonal_(float("-inf")).log_softmax(1)
    mates = (labels[:, None] == labels[None]).fill_diagonal_(False)
    return -(logs.masked_fill(~mates, 0).sum(1) / mates.sum(1)).mean()


def names(z: Tensor) -> Tensor:
    return (torch.arange(len(z)) % CLASSES).repeat(2)


def lightly() -> Loss:
    from lightly.loss.ntx_ent_loss import NTXentLoss  # type: ignore[import-not-found, unused-ignore]

    return NTXentLoss(temperature=T)  # type: ignore[no-any-return, unused-ignore]


def metric_learning() -> Loss:
    from pytorch_metric_learning.losses import NTXentLoss  # type: ignore[import-not-found, unused-ignore]

    loss = NTXentLoss(temperature=T)
    return lambda z1, z2: loss(torch.cat([z1, z2]), torch.arange(len(z1)).repeat(2))  # type: ignore[no-any-return]


LOSSES: dict[str, dict[str, Callable[[], Loss]]] = {
    "nt_xent": {
        "unlabeled": lambda: lambda a, b: nt_xent(a, b, T),
        "plain": lambda: plain_nt_xent,
        "lightly": lightly,
        "pytorch-metric-learning": metric_learning,
    },
    "info_nce": {"unlabeled": lambda: lambda a, b: info_nce(a, b, None, T), "plain": lambda: plain_info_nce},
    "supervised_contrastive": {
        "unlabeled": lambda: lambda a, b: supervised_contrastive(torch.cat([a, b]), names(a), T),
        "plain": lambda: plain_supervised,
    },
}


def inputs(n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z1 = torch.randn(n, DIM, generator=generator)
    z2 = z1 + torch.randn(n, DIM, generator=generator)
    return z1.to(dtype).requires_grad_(), z2.to(dtype).requires_grad_()


def memory(field: str) -> float:
    """VmRSS or VmHWM of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def measure(loss: str, by: str, n: int, threads: int, limit: float) -> dict[str, Any]:
    """One forward and backward, in this process."""
    torch.set_num_threads(threads)
    function = LOSSES[loss][by]()
    function(*inputs(128)).backward()
    z1, z2 = inputs(n)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts from here
    before = memory("VmRSS")
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 2**30), resource.RLIM_INFINITY))
    clock, processor = time.perf_counter(), time.process_time()
    value = function(z1, z2)
    value.backward()  # type: ignore[no-untyped-call]
    processor, clock = time.process_time() - processor, time.perf_counter() - clock
    return {
        "processor_seconds": round(processor, 4),
        "seconds": round(clock, 4),
        "peak_mib": round(memory("VmHWM") - before, 1),
        "loss": float(value.detach()),
    }


def agreement(loss: str, n: int) -> dict[str, Any]:
    """How far ours is from the plain form, and both from the plain form in float64: loss, and gradient of the first view."""

    def both(by: str, dtype: torch.dtype) -> tuple[float, Tensor]:
        z1, z2 = inputs(n, dtype)
        value = LOSSES[loss][by]()(z1, z2)
        return float(value.detach()), torch.autograd.grad(value, z1)[0].double()

    def apart(a: tuple[float, Tensor], b: tuple[float, Tensor]) -> dict[str, float]:
        return {"loss": abs(a[0] - b[0]) / abs(b[0]), "gradient": float((a[1] - b[1]).norm() / b[1].norm())}

    exact, plain, ours = both("plain", torch.float64), both("plain", torch.float32), both("unlabeled", torch.float32)
    return {"from plain": apart(ours, plain), "from float64": apart(ours, exact), "plain from float64": apart(plain, exact)}


def apart(arguments: argparse.Namespace, job: dict[str, Any]) -> dict[str, Any]:
    """The job in a process of its own; what stopped it, if something did."""
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
    if job.get("by") in ("lightly", "pytorch-metric-learning"):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(arguments.peers), os.environ.get("PYTHONPATH")]))
    words = [sys.executable, __file__, "--job", json.dumps(job), "--threads", str(arguments.threads)]
    words += ["--limit", str(arguments.limit)]
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=arguments.timeout)
    except subprocess.TimeoutExpired:
        return {"stopped": f"more than {arguments.timeout:g} s"}
    if done.returncode == 0:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return {"stopped": f"more than {arguments.limit:g} GiB" if "alloc" in last or "Memory" in last else last[-200:]}


def machine(threads: int) -> dict[str, Any]:
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in facts if line.startswith("model name")), "")
    return {
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "used_cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def peers(folder: Path) -> dict[str, str]:
    found = metadata.distributions(path=[str(folder)])
    return {d.metadata["Name"]: d.version for d in found if d.metadata["Name"] in LOSSES["nt_xent"]}


def jobs(arguments: argparse.Namespace, versions: dict[str, str]) -> list[dict[str, Any]]:
    """Small sizes of everything, round by round; then the large size of ours; then how well they agree."""
    found = []
    for turn in range(arguments.rounds):
        for n in arguments.sizes:
            for loss, by in ((loss, by) for loss, several in LOSSES.items() for by in several):
                if by in ("unlabeled", "plain") or by in versions:
                    found.append({"loss": loss, "by": by, "n": n, "round": turn})
    found += [{"loss": loss, "by": "unlabeled", "n": n, "round": 0} for n in arguments.large for loss in LOSSES]
    return found + [{"loss": loss, "agreement": n} for loss in LOSSES for n in arguments.sizes]


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over the rounds, and the time beside the plain form's."""
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in rows:
        if "by" in row["job"]:
            groups.setdefault((row["job"]["loss"], row["job"]["n"], row["job"]["by"]), []).append(row["result"])
    found: dict[tuple[str, int, str], dict[str, Any]] = {}
    for key, results in sorted(groups.items()):
        done = [r for r in results if "stopped" not in r]
        entry: dict[str, Any] = {"loss": key[0], "n": key[1], "by": key[2]}
        if done:
            entry |= {f: statistics.median(r[f] for r in done) for f in ("processor_seconds", "seconds", "peak_mib")}
        else:
            entry["stopped"] = results[0]["stopped"]
        found[key] = entry
    for (loss, n, _), entry in found.items():
        plain = found.get((loss, n, "plain"), {})
        if "processor_seconds" in entry and "processor_seconds" in plain:
            entry["times_plain"] = round(entry["processor_seconds"] / plain["processor_seconds"], 3)
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peers", type=Path, default=Path("build/peers"))
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 1024, 4096])
    parser.add_argument("--large", type=int, nargs="*", default=[32768])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=300)
    parser.add_argument("--limit", type=float, default=12, help="GiB that a process may take")
    parser.add_argument("--note", default="", help="what else the machine was doing")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        job = json.loads(arguments.job)
        if "agreement" in job:
            print(json.dumps(agreement(job["loss"], job["agreement"])))
        else:
            print(json.dumps(measure(job["loss"], job["by"], job["n"], arguments.threads, arguments.limit)))
        return
    versions = peers(arguments.peers)
    report: dict[str, Any] = {"machine": machine(arguments.threads), "peers": versions, "rows": []}
    if arguments.out and arguments.out.exists() and not arguments.again:
        old = json.loads(arguments.out.read_text())
        if all(old[k] == report[k] for k in ("machine", "peers")):
            report["rows"] = old["rows"]
    report |= {"dim": DIM, "temperature": T, "limit_gib": arguments.limit, "timeout_s": arguments.timeout}
    report |= {"note": arguments.note, "load_at_start": [round(x, 2) for x in os.getloadavg()]}
    known = [row["job"] for row in report["rows"]]
    for job in (j for j in jobs(arguments, versions) if j not in known):
        report["rows"].append({"job": job, "result": apart(arguments, job)})
        print(json.dumps(report["rows"][-1]), file=sys.stderr, flush=True)
        report["summary"] = summary(report["rows"])
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{'loss':24}{'N':>7}  {'by':26}{'s':>9}{'/ plain':>9}{'peak MiB':>11}")
    for row in summary(report["rows"]):
        figures = (
            row.get("stopped") or f"{row['processor_seconds']:9.3f}{row.get('times_plain', ''):>9}{row['peak_mib']:11.1f}"
        )
        print(f"{row['loss']:24}{row['n']:7}  {row['by']:26}{figures}")


if __name__ == "__main__":
    main()
