"""NPID, the plain memory bank, PIRL and CMC: objectives from the papers' equations in loops, and what their banks hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import build_encoder
from unlabeled.errors import UserError
from unlabeled.methods import pirl
from unlabeled.methods.base import Extract, Method
from unlabeled.methods.cmc import CMC
from unlabeled.parts.memory import Bank
from unlabeled.registry import Choice, build
from unlabeled.testing import check_method

AT = Progress(0, 9, 0)
N, B, SIZE = 20, 5, 8
INDEX = torch.tensor([3, 17, 0, 9, 11])
BANKED = ["npid", "nmb", "pirl", "cmc"]
Array = np.ndarray[Any, np.dtype[np.float64]]


def method(name: str, streams: str = "none", **options: Any) -> Any:
    torch.manual_seed(0)
    streams = "lab" if name == "cmc" else streams
    encoder = build_encoder(Choice("resnet10t", {"width": 4, "streams": streams}), 3, SIZE, torch.zeros(3), torch.ones(3))
    return build("methods", Choice(name, {"dim": 6, **options}), encoder, DataShape(N, 3, SIZE))


def batch(name: str) -> Batch:
    drawn = torch.Generator().manual_seed(1)
    views = [torch.rand(B, 3, SIZE, SIZE, generator=drawn)]
    return Batch(views + ([torch.rand(B, 9, 3, 4, 4, generator=drawn)] if name == "pirl" else []), INDEX)


def forward(made: Method, of: Batch) -> Loss:
    made.train()
    torch.manual_seed(7)
    loss: Loss = made(of, AT)
    return loss


def spied(monkeypatch: pytest.MonkeyPatch) -> list[Array]:
    """What banks draw, in order."""
    seen: list[Array] = []
    draw = Bank.draw

    def look(self: Bank, count: int, avoiding: Tensor, generator: torch.Generator) -> Tensor:
        assert torch.equal(avoiding, INDEX)
        drawn = draw(self, count, avoiding, generator)
        seen.append(drawn.double().numpy())
        return drawn

    monkeypatch.setattr(Bank, "draw", look)
    return seen


def units(z: Tensor) -> Array:
    return F.normalize(z.detach().double(), dim=1).numpy()


def info_nce(z: Array, own: Array, others: Array, tau: float) -> float:
    costs = []
    for i in range(len(z)):
        right = np.exp(z[i] @ own[i] / tau)
        costs.append(-np.log(right / (right + sum(np.exp(z[i] @ o / tau) for o in others))))
    return float(np.mean(costs))


def projected(made: Any, of: Batch) -> Array:
    """The single view through the encoder and the linear projector, in training mode."""
    return units(made.projector(made.train().encoder(of.views[0])))


def test_npid_is_noise_contrast_of_the_non_parametric_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    tau, m, weight = 0.3, 8, 2.5
    made, of, drawn = method("npid", temperature=tau, noise=m, proximal=weight), batch("npid"), spied(monkeypatch)
    v, bank = projected(made, of), made.bank.vectors.double().numpy().copy()
    loss = forward(made, of)
    (noise,) = drawn
    assert noise.shape == (m, 6)
    z = N * np.mean([[np.exp(v[i] @ noise[j] / tau) for j in range(m)] for i in range(B)])

    def h(i: int, w: Array) -> float:
        p = np.exp(v[i] @ w / tau) / z
        return float(p / (p + m / N))

    own = bank[INDEX]
    total = np.mean([-np.log(h(i, own[i])) - sum(np.log(1 - h(i, noise[j])) for j in range(m)) for i in range(B)])
    total += weight * np.mean([((v[i] - own[i]) ** 2).sum() for i in range(B)])
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-4)

    assert float(made.partition) == 0
    made.observe(loss, AT)
    assert float(made.partition) == pytest.approx(z, rel=1e-4)
    made.partition.mul_(3)
    again = forward(made, of)
    made.observe(again, AT)
    assert float(made.partition) == pytest.approx(3 * z, rel=1e-4), "Z is estimated once"
    assert float(again.terms["nce"]) != pytest.approx(float(loss.terms["nce"]), rel=1e-3)


def test_npid_told_nothing_is_the_closed_form() -> None:
    """Orthogonal v: all P are 1/n, and the loss is that of a model that is the noise."""
    made, m = method("npid", noise=4, proximal=0.0), 4
    made.bank.fill(torch.eye(6)[torch.zeros(N, dtype=torch.long)])
    with torch.no_grad():
        made.projector.weight[0], made.projector.bias[0] = 0.0, 0.0
    expected = (1 + m) * np.log(1 + m) - m * np.log(m)
    assert float(forward(made, batch("npid")).total.detach()) == pytest.approx(expected, rel=1e-5)


def test_a_plain_bank_tells_the_images_own_vector_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    made, of, drawn = method("nmb", temperature=0.3, negatives=8), batch("nmb"), spied(monkeypatch)
    v, own = projected(made, of), made.bank.vectors[INDEX].double().numpy()
    loss = forward(made, of)
    assert drawn[0].shape == (8, 6)
    assert float(loss.total.detach()) == pytest.approx(info_nce(v, own, drawn[0], 0.3), rel=1e-4)


def test_a_plain_bank_that_holds_what_is_said_now_costs_nothing() -> None:
    """More than log 2 would be left if an image's own vector were among its negatives."""
    made, of = method("nmb", temperature=1e-5, momentum=0.0), batch("nmb")
    made.observe(forward(made, of), AT)
    assert float(forward(made, of).total.detach()) < 0.1


def noise_contrast(z: Array, own: Array, others: Array, tau: float) -> float:
    """Misra & van der Maaten 2020, eqs. 4 and 5, of each query and each negative."""
    costs = []
    for i in range(len(z)):
        among = sum(np.exp(z[i] @ o / tau) for o in others)

        def h(w: Array, i: int = i, among: float = among) -> float:
            score = np.exp(z[i] @ w / tau)
            return float(score / (score + among))

        costs.append(-np.log(h(own[i])) - sum(np.log(1 - h(o)) for o in others))
    return float(np.mean(costs))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("loss", "oracle"), [("nce", noise_contrast), ("info-nce", info_nce)])
def test_pirl_weighs_patches_and_image(
    weight: float, loss: str, oracle: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, of = method("pirl", temperature=0.3, negatives=8, weight=weight, loss=loss), batch("pirl")
    drawn, own = spied(monkeypatch), made.bank.vectors[INDEX].double().numpy()
    found = forward(made, of)
    made.train()
    h = made.encoder(of.views[1].reshape(B * 9, 3, 4, 4))
    rows = []
    for i in range(B):
        nine = [made.of_patch(h[9 * i + p]) for p in range(9)]
        rows.append(made.of_patches(torch.cat(nine)))
    g, f = units(torch.stack(rows)), units(made.f(made.encoder(of.views[0])))
    expected = weight * oracle(g, own, drawn[0], 0.3) + (1 - weight) * oracle(f, own, drawn[0], 0.3)
    assert float(found.total.detach()) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(F.normalize(found.memory["vectors"]).double().numpy(), f, rtol=1e-4, atol=1e-5)


def test_pirls_noise_contrast_pulls_the_positive_and_pushes_every_negative() -> None:
    """With the sum S as a constant: dL/ds = (h(positive) - 1)/τ of the positive, and h(negative)/τ of each negative."""
    tau, drawn = 0.3, torch.Generator().manual_seed(4)
    negatives, positive = (F.normalize(torch.randn(n, 6, generator=drawn).double(), dim=1) for n in (7, 1))
    query = F.normalize(torch.randn(1, 6, generator=drawn).double(), dim=1).requires_grad_()
    pirl.noise_contrast(query, negatives, positive, tau).backward()
    assert query.grad is not None
    q, others = query.detach()[0].numpy(), negatives.numpy()
    among = sum(np.exp(q @ o / tau) for o in others)
    expected = np.zeros(6)
    for vector, is_own in [(positive[0].numpy(), True), *[(o, False) for o in others]]:
        h = np.exp(q @ vector / tau) / (np.exp(q @ vector / tau) + among)
        expected += (h - is_own) / tau * (vector - (q @ vector) * q)
    np.testing.assert_allclose(query.grad[0].numpy(), expected, rtol=1e-6, atol=1e-9)


def test_pirl_sees_the_order_of_the_patches() -> None:
    made, of = method("pirl", weight=1.0), batch("pirl")
    one = float(forward(made, of).total.detach())
    of.views[1] = of.views[1].flip(1)
    assert float(forward(made, of).total.detach()) != pytest.approx(one, rel=1e-4)


def test_cmc_contrasts_each_view_with_the_bank_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    made, of, drawn = method("cmc", temperature=0.3, negatives=8), batch("cmc"), spied(monkeypatch)
    loss = forward(made, of)
    of_l, of_ab = drawn
    for some, bank in ((of_l, made.bank_l), (of_ab, made.bank_ab)):
        assert all((np.abs(bank.vectors.numpy() - s).max(1) < 1e-6).any() for s in some)
    h = made.train().encoder(of.views[0])
    half = h.shape[1] // 2
    z_l, z_ab = units(made.projectors.l(h[:, :half])), units(made.projectors.ab(h[:, half:]))
    own_l, own_ab = (bank.vectors[INDEX].double().numpy() for bank in (made.bank_l, made.bank_ab))
    expected = info_nce(z_l, own_ab, of_ab, 0.3) + info_nce(z_ab, own_l, of_l, 0.3)
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-4)
    before = made.bank_ab.vectors.clone()
    made.observe(loss, AT)
    mixed = 0.5 * before[INDEX].double().numpy() + 0.5 * z_ab
    mixed /= np.sqrt((mixed**2).sum(1, keepdims=True))
    np.testing.assert_allclose(made.bank_ab.vectors[INDEX].numpy(), mixed, rtol=1e-4, atol=1e-5)


def test_cmc_by_noise_contrast_in_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the published code has it: P = exp(z·v/τ)/Z, against the uniform P_n = 1/n; Z of each direction is n times the mean
    of exp over the scores of the first batch, own vectors included, and stays."""
    tau, k = 0.3, 8
    made, of, drawn = method("cmc", loss="nce", temperature=tau, negatives=k), batch("cmc"), spied(monkeypatch)
    loss = forward(made, of)
    of_l, of_ab = drawn
    h = made.train().encoder(of.views[0])
    half = h.shape[1] // 2
    z_l, z_ab = units(made.projectors.l(h[:, :half])), units(made.projectors.ab(h[:, half:]))
    own_l, own_ab = (bank.vectors[INDEX].double().numpy() for bank in (made.bank_l, made.bank_ab))

    def exps(z: Array, own: Array, others: Array) -> list[list[float]]:
        return [[float(np.exp(z[i] @ v / tau)) for v in (own[i], *others)] for i in range(B)]

    def noise_contrast(rows: list[list[float]], constant: float) -> float:
        cost, noise = 0.0, k / N
        for right, *wrong in rows:
            cost -= np.log(right / constant / (right / constant + noise))
            cost -= sum(np.log(noise / (each / constant + noise)) for each in wrong)
        return cost / B

    both = [exps(z_l, own_ab, of_ab), exps(z_ab, own_l, of_l)]
    constants = [N * np.mean(rows) for rows in both]
    expected = sum(noise_contrast(rows, constant) for rows, constant in zip(both, constants, strict=True))
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-4)
    assert not made.partition.any()
    made.observe(loss, AT)
    assert made.partition.tolist() == pytest.approx(constants, rel=1e-4)
    made.partition.mul_(torch.tensor([2.0, 3.0]))
    made.observe(forward(made, of), AT)
    assert made.partition.tolist() == pytest.approx([2 * constants[0], 3 * constants[1]], rel=1e-4), "Z is estimated once"
    assert "partition" not in method("cmc").state_dict()


def test_cmc_by_noise_contrast_keeps_the_contract() -> None:
    """A resumed run has the same bits, pieces and dtypes too: what `tests/contract` tries, with the other loss."""
    check_method(CMC, loss="nce")


def test_cmc_refuses_an_encoder_of_one_stream() -> None:
    encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, SIZE, torch.zeros(3), torch.ones(3))
    with pytest.raises(UserError, match=r"two streams.*--encoder.streams lab"):
        build("methods", Choice("cmc"), encoder, DataShape(N, 3, SIZE))


@pytest.mark.parametrize("name", BANKED)
def test_only_the_batchs_rows_are_written_with_half_of_the_old(name: str) -> None:
    made, of = method(name), batch(name)
    banks = [m for m in made.modules() if isinstance(m, Bank)]
    before = [bank.vectors.clone() for bank in banks]
    loss = forward(made, of)
    made.observe(loss, AT)
    others = [i for i in range(N) if i not in INDEX.tolist()]
    given = [loss.memory[k] for k in (("l", "ab") if name == "cmc" else ("vectors",))]
    for bank, old, new in zip(banks, before, given, strict=True):
        assert torch.equal(bank.vectors[others], old[others])
        torch.testing.assert_close(bank.vectors[INDEX], F.normalize(old[INDEX] + F.normalize(new, dim=1), dim=1))


def extraction(images: Tensor) -> Extract:
    def extract(module: nn.Module, rows: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            found: Tensor = module.eval()(images if rows is None else images[rows])
        return found

    return extract


@pytest.mark.parametrize("name", ["nmb", "pirl", "cmc"])
def test_the_warm_up_pass_fills_the_bank_once_with_vectors_that_differ(name: str) -> None:
    made, images = method(name), torch.rand(N, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    banks = [m for m in made.modules() if isinstance(m, Bank)]
    made.before_epoch(AT, extraction(images))
    filled = [bank.vectors.clone() for bank in banks]
    for vectors in filled:
        assert vectors.isfinite().all()
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(N))
        assert float(torch.pdist(vectors).min()) > 1e-3
    with torch.no_grad():
        h = made.eval().encoder(images)
        head = {"nmb": "projector", "pirl": "f", "cmc": "projectors.l"}[name]
        said = made.get_submodule(head)(h.chunk(2, 1)[0] if name == "cmc" else h)
        torch.testing.assert_close(filled[0], F.normalize(said, dim=1), rtol=1e-4, atol=1e-5)
    made.before_epoch(Progress(4, 9, 1), extraction(1 - images))
    assert all(torch.equal(bank.vectors, vectors) for bank, vectors in zip(banks, filled, strict=True))
