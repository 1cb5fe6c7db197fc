"""A critic and those that it judges, on two processes: each has the gradient of one process with the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.encoders.image import ImageFront
from unlabeled.methods.base import Method
from unlabeled.optim.optimizers import Optimizers
from unlabeled.registry import Choice
from unlabeled.testing.processes import start
from unlabeled.training.step import Step

AT = Progress(0, 4, 0)


class Against(Method):
    """The encoder wants its codes to score high, the critic wants them low and noise high."""

    n_views = 1
    adds_up = True
    parts = {"critic": {"name": "adamw", "lr": 0.05}}  # noqa: RUF012

    def __init__(self, encoder: Encoder, shape: DataShape) -> None:
        super().__init__(encoder, shape)
        self.critic = nn.Linear(encoder.dim, 1)

    def forward(self, batch: Batch, at: Progress) -> Loss:
        h = self.encoder(batch.views[0])
        noise = torch.linspace(-1, 1, h.shape[1]).expand_as(h)
        fake, real = self.critic(h), self.critic(noise)
        softplus = nn.functional.softplus
        rival = (softplus(fake) + softplus(-real)).mean()
        return Loss(softplus(-fake).mean(), {"fake": fake.detach().mean()}, rivals={"critic": rival})


def steps(rank: int | None, pieces: int = 1) -> dict[str, Any]:
    """Two steps on this process's half, or on the whole batch: gradients of the first, and the weights at the end."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 5))
    encoder = Encoder(ImageFront(4, 4, torch.full((3,), 0.5), torch.full((3,), 0.3)), backbone, 5)
    method = Against(encoder, DataShape(8, 3, 4))
    rule = Choice("sgd", {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False})
    optimizers = Optimizers(method, rule, method.parts, scaling="none")
    step = Step(method, lambda at: lambda fields, generator: ([], {}), optimizers, pieces=pieces)  # type: ignore[arg-type, return-value]
    first: dict[str, Tensor] = {}
    for number in range(2):
        x = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(number))
        mine = x if rank is None else x.chunk(2)[rank]
        optimizers.zero_grad()
        step.backward(Batch([mine], torch.arange(len(mine))), AT)
        first = first or {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
        optimizers.step()
    return {"gradients": first, "weights": {n: p.detach().clone() for n, p in method.named_parameters()}}


def child(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save({"whole": steps(rank), "pieces": steps(rank, 2)}, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_and_pieces_have_the_gradients_of_one_process(tmp_path: Path) -> None:
    start(child, str(tmp_path))
    one = steps(None)
    assert all(gradient.abs().max() > 0 for gradient in one["gradients"].values())
    for found in [
        steps(None, 4),
        *(torch.load(tmp_path / f"{rank}.pt")[how] for rank in (0, 1) for how in ("whole", "pieces")),
    ]:
        for name, expected in one["gradients"].items():
            torch.testing.assert_close(found["gradients"][name], expected, rtol=1e-4, atol=1e-6)
        for name, expected in one["weights"].items():
            torch.testing.assert_close(found["weights"][name], expected, rtol=1e-4, atol=1e-5)
