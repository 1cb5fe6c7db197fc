"""Methods that break the contract, each in one way: the rule that they break says so, and no other need."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, Loss, Progress
from unlabeled.errors import UserError
from unlabeled.losses import info_nce
from unlabeled.methods.base import Comparison, Embedded, Extract, Method
from unlabeled.methods.moco import MoCo
from unlabeled.methods.simclr import SimCLR
from unlabeled.registry import Choice, Entry
from unlabeled.testing import RULES, ContractError, Trial, check_method
from unlabeled.testing.processes import TWO


class Plain(SimCLR):
    pass


class Unused(SimCLR):
    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.spare = nn.Linear(3, 3)


class MovesInObserve(MoCo):
    def observe(self, loss: Loss, at: Progress) -> None:
        super().observe(loss, at)
        for p in self.parameters():
            if not p.requires_grad:
                p.add_(0.01)


class WritesInForward(SimCLR):
    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.register_buffer("seen", torch.zeros(()))

    def embed(self, batch: Batch) -> Embedded:
        self.seen += 1
        return super().embed(batch)


class LogsItsGraph(SimCLR):
    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        loss = super().compare(embedded, at)
        return Loss(loss.total, {"loss": loss.total}, loss.memory)


class HidesZ(SimCLR):
    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        return Loss(super().compare(embedded, at).total)


class Forgets(SimCLR):
    """What it remembers is no buffer."""

    seen = 0

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        loss = super().compare(embedded, at)
        loss.total = loss.total * (1 + 0.1 * self.seen)
        return loss

    def after_step(self, at: Progress) -> None:
        self.seen += 1


class Draws(SimCLR):
    number = 0

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        Draws.number += 1
        loss = super().compare(embedded, at)
        loss.total = loss.total * (1 + 0.1 * Draws.number)
        return loss


class Coarse(SimCLR):
    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        h = torch.cat([embedded["h1"], embedded["h2"]])
        z1, z2 = self.projector(h).chunk(2)
        return Loss((z1 @ z2.T).exp().mean().log(), {}, {"z": z1.detach()})


class NeedsFour(SimCLR):
    def embed(self, batch: Batch) -> Embedded:
        if len(batch.index) < 4:
            raise ValueError("four, please")
        return super().embed(batch)


class Early(MoCo):
    """Its keys are in the queue before it is read."""

    def constants(self, batch: Batch) -> Embedded:
        found = super().constants(batch)
        self.queue.push(F.normalize(next(iter(found.values())), dim=1))
        return found


class Stays(MoCo):
    def after_step(self, at: Progress) -> None:
        pass


class Undocumented(SimCLR):
    def __init__(self, *given: Any, extra: int = 3, **options: Any) -> None:
        super().__init__(*given, **options)


class CostsLater(SimCLR):
    def before_epoch(self, at: Progress, extract: Extract) -> None:
        if at.epoch > 3:
            extract(self.encoder)


class OwnNegative(SimCLR):
    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        h = torch.cat([embedded["h1"], embedded["h2"]])
        z1, z2 = F.normalize(self.projector(h).float(), dim=1).chunk(2)
        return Loss(info_nce(z1, z2, z2.detach(), self.temperature), {}, {"z": z1.detach()})


class WrongG(SimCLR):
    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.own, self.projector = self.projector, nn.Flatten(0)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        z1, z2 = self.own(torch.cat([embedded["h1"], embedded["h2"]])).chunk(2)
        return Loss(self.objective(z1, z2), {}, {"z": z1.detach()})


class ThreeViews(SimCLR):
    n_views = 3


class FewWeights(SimCLR):
    def sampling(self) -> Tensor:
        return torch.ones(5)


class LooksAtOthers(SimCLR):
    def embed(self, batch: Batch) -> Embedded:
        return {name: h - h.mean(0) for name, h in super().embed(batch).items()}


class DrawsInCompareAndEmbed(SimCLR):
    def embed(self, batch: Batch) -> Embedded:
        noise = torch.randn(len(batch.index), 1, generator=torch.Generator().manual_seed(self._next()))
        return {name: h * (1 + noise) for name, h in super().embed(batch).items()}

    calls = 0

    def _next(self) -> int:
        self.calls += 1
        return self.calls


class Collapses(SimCLR):
    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        h = torch.cat([embedded["h1"], embedded["h2"]])
        z1, z2 = self.projector(h).chunk(2)
        return Loss((z1 - z2).square().mean() + (z1 - 1).square().mean(), {}, {"z": z1.detach()})


class NotGathered(Comparison):
    """Negatives of this process only."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.projector = nn.Linear(self.encoder.dim, 16)

    def embed(self, batch: Batch) -> Embedded:
        h1, h2 = self.encoder(torch.cat(batch.views)).chunk(2)
        return {"h1": h1, "h2": h2}

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        z1, z2 = (F.normalize(self.projector(h).float(), dim=1) for h in embedded.values())
        return Loss(F.cross_entropy(z1 @ z2.T / 0.5, torch.arange(len(z1))), {}, {"z": z1.detach()})


BROKEN: list[tuple[type[Method], str, str]] = [
    (Unused, "gradients reach what is trainable", "without a gradient: spare.bias, spare.weight"),
    (MovesInObserve, "frozen parameters are moved by after step alone", "moved: "),
    (WritesInForward, "forward writes nothing", "written: seen"),
    (LogsItsGraph, "forward gives a loss", "with a graph: loss"),
    (HidesZ, "forward gives a loss", 'memory["z"] (B, D) is missing'),
    (Draws, "the same step gives the same bits", " and "),
    (Forgets, "a run that is resumed has the same bits", "the losses of steps [3, 4, 5] are others"),
    (Coarse, "bfloat16 is near float32", "total is torch.bfloat16"),
    (NeedsFour, "odd batches work", "ValueError: four, please"),
    (Early, "a queue is read before it is written", "holds the keys of a step when that step reads it"),
    (Stays, "a copy follows its network", "did not follow"),
    (Undocumented, "options are documented", "extra is not among the Args of a docstring"),
    (CostsLater, "what costs more in a later epoch is said", "full_cost_from(100) is 0"),
    (OwnNegative, "a perfect match costs nothing", "the loss is 0.6"),
    (WrongG, "g makes an embedding of a representation", "of 5 representations"),
    (ThreeViews, "the policy draws what it compares", "2 views are drawn, and 3 are compared"),
    (FewWeights, "samples are drawn by weights", "of 128 samples it has the shape (5,)"),
    (LooksAtOthers, "pieces give the gradient of the whole", "the loss is"),
    (DrawsInCompareAndEmbed, "both passes of pieces see the same", "is off by"),
    (Collapses, "it learns without collapse", "collapse"),
]


def trial(method: type[Method]) -> Trial:
    return Trial(Entry("methods", method.__name__, method))


@pytest.mark.parametrize(("method", "name", "seen"), BROKEN, ids=[method.__name__ for method, _, _ in BROKEN])
def test_a_broken_rule_is_told(method: type[Method], name: str, seen: str) -> None:
    (rule,) = [rule for rule in RULES if rule.name == name]
    tried = trial(method)
    assert rule.applies(tried)
    with pytest.raises(ContractError) as error:
        rule(tried)
    said = str(error.value)
    assert said.startswith(f"{method.__name__} breaks the rule {name!r} ({rule.promise}): ")
    assert seen in said
    assert said.endswith(rule.remedy)


def test_every_rule_is_broken_by_something() -> None:
    """But for two, which follow others: bfloat16 in pieces, and recipes, which only a registered name has."""
    untried = {rule.name for rule in RULES} - {name for _, name, _ in BROKEN}
    assert untried == {"pieces in bfloat16 are as near", "options survive a recipe"}


def test_two_processes_tell_a_method_that_does_not_gather() -> None:
    with pytest.raises(
        ContractError, match=r"NotGathered breaks the rule 'two processes are one' .* at once, the loss of step 0"
    ):
        TWO(trial(NotGathered))


def test_a_class_that_is_registered_nowhere_keeps_the_contract() -> None:
    kept = check_method(Plain, temperature=0.2)
    assert {"forward writes nothing", "it learns without collapse"} <= set(kept)
    assert not {"a queue is read before it is written", "options survive a recipe"} & set(kept)


def test_encoder_views_and_options_are_given_by_hand() -> None:
    kept = check_method(Plain, encoder=Choice("resnet10t", {"width": 4}), views="moco-v2", dim=16)
    assert "pieces give the gradient of the whole" not in kept, "it has batch norm"
    with pytest.raises(UserError, match="did you mean 'temperature'"):
        check_method(Plain, temprature=1)
    with pytest.raises(UserError, match="did you mean 'simclr'"):
        check_method("simcrl")
