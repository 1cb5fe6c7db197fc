"""How steps are computed: every way computes the same, the choice follows the timings, and a run keeps it."""

from __future__ import annotations

import copy
import json
import os
import platform
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command import SMALL, file, mistake, ok
from torch import nn
from torch._inductor import config as inductor

import unlabeled
from unlabeled.compute import speed
from unlabeled.compute.speed import Speed
from unlabeled.data import open_data
from unlabeled.data.room import give_back
from unlabeled.errors import UserError
from unlabeled.recipe import compose
from unlabeled.registry import Choice
from unlabeled.run import Run
from unlabeled.training import speed_trial
from unlabeled.training.apart import Death, Tell, apart, can_copy
from unlabeled.training.speed_trial import Trial, tuned, workers

WAYS = ["workers=1", "channels-last", "fused", "workers=3", "bf16 channels-last fused workers=2"]


def _losses(path: Path, way: str, *more: object) -> torch.Tensor:
    data = path / "x.npz"
    if not data.exists():
        file(data, n=90)
    # At a paper's rate, a narrow network makes 0.1 of bfloat16's rounding within some epochs.
    gentle = "--epochs", "2", "--paper", "--optimizer.lr", "0.03", "--lr-scaling", "linear"
    ok("pretrain", data, *SMALL, *gentle, "--speed", way, "--out", path / way.replace(" ", "-"), *more)
    return torch.tensor([line["loss"] for line in Run.open(path / way.replace(" ", "-")).history if "loss" in line])


@pytest.mark.parametrize("method", ["simclr", "byol", "swav"])
def test_every_way_computes_the_same(method: str, tmp_path: Path) -> None:
    found = [_losses(tmp_path, way, "--method", method) for way in WAYS]
    assert len(found[0])
    for way, losses in zip(WAYS, found, strict=True):
        torch.testing.assert_close(
            losses, found[0], rtol=0.02 if "bf16" in way else 1e-3, atol=0.02 if "bf16" in way else 1e-3
        )
    assert torch.equal(found[0], found[3])


@pytest.mark.parametrize("method", ["simclr", "byol", "moco"])
def test_products_and_norms_compute_the_same(method: str, tmp_path: Path) -> None:
    wide = ["--encoder", "resnet9", "--encoder.width", "64", "--method", method]
    wide += ["--method.temperature", "0.2", "--method.momentum", "0.999"] if method == "moco" else []  # ImageNet's: gentle
    ways = "workers=1", "products", "channels-last norms", "bf16 channels-last products norms"
    plain, products, norms, half = (_losses(tmp_path, way, *wide) for way in ways)
    torch.testing.assert_close(products, plain, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(norms, plain, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(half, plain, rtol=0.02, atol=0.02)


def test_a_compiled_network_computes_the_same_keeps_its_names_and_runs_as_written_when_judged() -> None:
    if refused := speed.refusal("cpu"):
        pytest.skip(refused)
    small = nn.Conv2d(64, 4, 3, bias=False)  # one that `products` takes
    network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), small, nn.Flatten())
    twin = copy.deepcopy(network)
    way = Speed(products=True, compiled=True)
    way.prepare(network)
    x = torch.rand(8, 3, 6, 6)
    for module in (network, twin):
        module(x).square().mean().backward()
    for mine, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    assert list(network.state_dict()) == list(twin.state_dict())
    twin.load_state_dict(network.state_dict())
    with way.eager(), torch.no_grad():
        assert torch.equal(network.eval()(x[:3]), twin.eval()(x[:3]))


class Net(nn.Sequential):
    """A network that is soon compiled."""

    dim = 4

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_without_a_compiler_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch._dynamo.reset()
    speed.refusal.cache_clear()
    try:
        with inductor.patch({"cpp.cxx": ("no-such-compiler",), "fx_graph_cache": False}):
            assert speed.refusal("cpu")
            assert torch.equal(_losses(tmp_path, "compiled"), _losses(tmp_path, "workers=1"))
            unlabeled.give(encoder=Net)
            found = unlabeled.tune(tmp_path / "x.npz", encoder="Net", batch_size=16, image_size=8, accelerator="cpu")
            assert "compiling cannot be had here" in " ".join(map(str, found.lines()))
            assert not found.speed.compiled
    finally:
        torch._dynamo.reset()
        speed.refusal.cache_clear()


@pytest.mark.parametrize(
    "words", ["bf16 channels-last products norms compiled fused workers=4", "workers=1", "fused workers=2"]
)
def test_words_are_read_as_they_are_written(words: str) -> None:
    assert str(Speed.parse(words)) == words


def test_mistakes(tmp_path: Path) -> None:
    data = file(tmp_path / "x.npz")
    for wrong in ("fast", "bf16 workers=0", "workers=many"):
        assert "such as" in mistake("pretrain", data, "--speed", wrong, "--out", tmp_path / "a")
    assert "let them agree" in mistake("pretrain", data, "--speed", "bf16", "--precision", "32", "--out", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_choice_follows_the_timings() -> None:
    plain, last, half = "workers=1", "channels-last workers=1", "bf16 channels-last workers=1"
    trial = Trial({plain: 1.0, last: 0.99, half: 0.5}, fetch=0.1, usual=plain)
    assert str(trial.choose(1000)) == half
    assert trial.gain(trial.choose(1000)) == 2.0
    near = Trial({plain: 1.0, last: 0.97}, fetch=0.1, usual=plain)
    assert str(near.choose(1000)) == plain
    unusual = Trial({plain: 1.0}, fetch=0.1, usual=half)  # the usual way did not fit the memory
    assert str(unusual.choose(1000)) == plain
    compiled = Trial({plain: 1.0, "compiled workers=1": 0.5}, fetch=0.1, usual=plain, compile=60.0)
    assert not compiled.choose(110).compiled
    assert compiled.choose(200).compiled
    assert [workers(fetch, 0.1) for fetch in (0.01, 0.1, 0.15, 9.0)] == [1, 1, 2, 8]


def test_a_trial_is_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_data(file(tmp_path / "x.npz"), kind=Choice("", {"size": 8})).train
    recipe = compose({"encoder.width": 4, "batch_size": 16, "kind.size": 8})
    before = torch.get_rng_state()
    assert tuned(recipe, source, "cpu", speed_trial.WORTH_STEPS - 1) is None
    first = tuned(recipe, source, "cpu", speed_trial.WORTH_STEPS)
    assert first is not None
    assert first.compile is None
    assert first.choose(1000).bf16 in (False, speed.computes_in_bf16(torch.device("cpu")))
    assert torch.equal(torch.get_rng_state(), before)
    monkeypatch.setattr(speed_trial, "TimedSteps", None)
    assert tuned(recipe, source, "cpu", speed_trial.WORTH_STEPS) == first
    with pytest.raises(TypeError):
        tuned(compose({"encoder.width": 5, "batch_size": 16, "kind.size": 8}), source, "cpu", speed_trial.WORTH_STEPS)


def test_a_run_keeps_what_was_chosen_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_trial, "WORTH_STEPS", 1)
    data = file(tmp_path / "x.npz", n=90)
    said = ok("pretrain", data, *SMALL, "--epochs", "2", "--out", tmp_path / "a")
    run = Run.open(tmp_path / "a")
    assert f"speed: {run.recipe.speed}" in said
    assert Speed.parse(run.recipe.speed)
    assert run.recipe.speed.rpartition(" ")[0] in " ".join(run.environment["speed"]["steps"])
    assert "speed: timing some steps" in said
    assert "timing" not in ok("pretrain", data, *SMALL, "--epochs", "2", "--out", tmp_path / "b")
    ok("pretrain", data, "--recipe", tmp_path / "a" / "recipe.yaml", "--accelerator", "cpu", "--out", tmp_path / "c")
    weights = [(tmp_path / name / "encoder.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] == weights[2]
    assert "finished" in ok(
        "pretrain", data, *SMALL, "--epochs", "2", "--speed", "auto", "--out", tmp_path / "a", "--resume"
    )
    other = "fused workers=1" if "fused" not in run.recipe.speed else "workers=1"
    assert "began with speed" in mistake("pretrain", data, *SMALL, "--speed", other, "--out", tmp_path / "a", "--resume")


FAULTS = """
import resource, sys, torch
if sys.argv[1:]:
    from unlabeled.compute.speed import keep_memory
    keep_memory()
for _ in range(30): torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3): torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other ways")
def test_memory_that_is_freed_is_used_again_without_asking_for_its_pages() -> None:
    kept, usual = (
        int(subprocess.run([sys.executable, "-c", FAULTS, *a], capture_output=True, text=True, check=True).stdout)
        for a in (["keep"], [])
    )
    pages = 3 * 2**26 / resource.getpagesize()
    assert kept < pages / 1000 < pages / 600 < usual  # huge pages are 512 at a time


def test_tune_shows_a_table(tmp_path: Path) -> None:
    unlabeled.give(encoder=Net)
    words = ("--encoder", "Net", "--batch-size", "16", "--image-size", "8", "--accelerator", "cpu", "--epochs", "2")
    said = ok("tune", file(tmp_path / "x.npz"), *words)
    for word in ("plain float32", "channels-last", "images/s", "chosen for 6 steps: --speed '"):
        assert word in said
    assert len(list((tmp_path / "cache" / "speed").glob("*.json"))) == 1
    json.loads(next((tmp_path / "cache" / "speed").glob("*.json")).read_text())
    with pytest.raises(UserError, match="no data"):
        unlabeled.tune()
    with pytest.raises(UserError, match="--label 'kind'"):
        unlabeled.tune(tmp_path / "x.npz", label="kind")


CPU = torch.device("cpu")
COPIES = pytest.mark.skipif(not can_copy(CPU), reason="this system makes no copies of processes")


@COPIES
@pytest.mark.parametrize("name", ["SIGILL", "SIGSEGV", "SIGFPE", "SIGABRT"])
def test_what_kills_a_copy_kills_nothing_else(name: str) -> None:
    def dies(tell: Tell) -> None:
        tell("first")
        tell("second")
        os.kill(os.getpid(), getattr(signal, name))

    assert apart(dies, CPU) == Death("second", name)


@COPIES
def test_a_copy_gives_what_it_found_or_raised() -> None:
    here = os.getpid()

    def refuses(tell: Tell) -> None:
        raise UserError("give another")

    assert apart(lambda tell: os.getpid(), CPU) != here
    with pytest.raises(UserError, match="give another"):
        apart(refuses, CPU)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other ways")
def test_work_gives_its_memory_back_where_there_is_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unlabeled.training.apart.can_copy", lambda device: False)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20

    def works(tell: Tell) -> tuple[int, bytes]:
        blocks = [b"x" * 100_000 for _ in range(2000)]
        return resident(), blocks[-1]  # which lies above the others, so that they are not given back by themselves

    give_back()
    before = resident()
    during, _held = apart(works, CPU)  # type: ignore[misc]
    assert during > before + 150
    assert resident() < before + 40


@COPIES
def test_a_copy_computes_on_all_threads() -> None:
    """GNU's OpenMP would wait for ever for threads that are not in the copy."""

    def learns(tell: Tell) -> list[float]:
        torch.manual_seed(0)
        x = torch.randn(8, 16, 32, 32, requires_grad=True)
        weight = torch.randn(16, 16, 3, 3, requires_grad=True)
        total = (nn.functional.conv2d(x, weight) ** 2).mean()
        total.backward()
        return [float(total.detach()), float(weight.grad.norm())]  # type: ignore[union-attr]

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert apart(learns, CPU) == pytest.approx(learns(print), rel=1e-5)
    finally:
        torch.set_num_threads(before)


@COPIES
def test_a_copy_compiles_where_its_process_has() -> None:
    """PyTorch 2.14.1's compiler keeps a pool of threads, none of which are in the copy. In a process of its own, as autograd
    refuses to work in copies of one that has compiled."""
    code = """if True:
        import os, torch
        from unlabeled.compute.speed import refusal
        from unlabeled.training import apart
        apart.STILL = 20.0

        def compiles(power):
            power += os.getpid() % 1000 / 1000  # another program each time, which no cache has
            return float(torch.compile(lambda x: (x**power).sin().cumsum(0))(torch.ones(300))[-1]), os.getpid()

        if why := refusal("cpu"):
            print(why)
        else:
            here = compiles(2)
            there = apart.apart(lambda tell: compiles(3), torch.device("cpu"))
            assert isinstance(there, tuple), there
            assert there[1] != here[1]
    """
    if refused := subprocess.run([sys.executable, "-c", code], check=True, timeout=200, stdout=subprocess.PIPE).stdout:
        pytest.skip(refused.decode())


@COPIES
def test_a_way_that_ends_its_process_is_ruled_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are timed, and the run is trained by one of them."""
    monkeypatch.setattr(speed_trial, "WORTH_STEPS", 1)
    prepare = Speed.prepare

    def deadly(way: Speed, *encoders: object) -> None:
        if way.channels_last:
            os.kill(os.getpid(), signal.SIGILL)
        prepare(way, *encoders)  # type: ignore[arg-type]

    monkeypatch.setattr(Speed, "prepare", deadly)
    said = ok(
        "pretrain", file(tmp_path / "x.npz", n=90), *SMALL, "--precision", "32", "--epochs", "1", "--out", tmp_path / "a"
    )
    assert "the way 'channels-last workers=1' ends its process on this machine (SIGILL): ruled out" in said
    run = Run.open(tmp_path / "a")
    assert run.finished
    assert not Speed.parse(run.recipe.speed).channels_last
    assert run.environment["speed"]["died"]["channels-last workers=1"] == "SIGILL"
    monkeypatch.setattr(Speed, "prepare", lambda way, *encoders: os.kill(os.getpid(), signal.SIGILL))
    more = ("--encoder.width", "6", "--batch-size", "16", "--image-size", "8", "--accelerator", "cpu")
    assert "every way to compute ends its process" in mistake(
        "pretrain", tmp_path / "x.npz", *more, "--epochs", "1", "--out", tmp_path / "b"
    )
