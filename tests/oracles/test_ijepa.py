"""I-JEPA: its loss in loops, who sees what and who learns, the predictor's order, the target that follows; its blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from unlabeled import registry
from unlabeled.batch import Batch, DataShape, Progress
from unlabeled.encoders import build_encoder
from unlabeled.errors import UserError
from unlabeled.optim.schedules import cosine_momentum
from unlabeled.parts.patches import positions
from unlabeled.registry import Choice

AT = Progress(3, 10, 0)
MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])
GIVEN = {
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "patch_size": 4,
    "class_token": False,
    "global_pool": "avg",
    "fc_norm": False,
}
SMALL = {"width": 8, "depth": 1, "heads": 2}


def method(size: int = 32, **options: Any) -> Any:
    torch.manual_seed(0)
    built = build_encoder(Choice("vit_tiny_patch16_224", GIVEN), 3, size, MEAN, STD)
    return registry.build("methods", Choice("ijepa", {**SMALL, **options}), built, DataShape(9, 3, size)).eval()


def drawn(count: int = 5, seed: int = 1, size: int = 32, **options: Any) -> Batch:
    shape = DataShape(9, 3, size)
    views = registry.build("views", Choice("blocks", {"patch_size": 4, **options}), shape)
    x = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    found, targets = views({"image": x}, torch.Generator().manual_seed(seed))
    return Batch(found, torch.arange(count), targets)


def test_the_loss_is_hubers_of_normalised_tokens_of_the_blocks() -> None:
    made, of = method(), drawn()
    predicted = made.predicted(of).detach().double().numpy()
    network = made.target.module
    with torch.no_grad():
        everything = network.local(of.views[0], torch.arange(64).expand(5, -1))[1][-1].mT.double().numpy()
    costs = []
    for i, blocks in enumerate(of.targets["hidden"].tolist()):
        for b, places in enumerate(blocks):
            for t, place in enumerate(places):
                token = everything[i, place]
                token = (token - token.mean()) / np.sqrt(token.var() + 1e-5)
                gap = np.abs(predicted[i, b, t] - token)
                costs += np.where(gap < 1, gap**2 / 2, gap - 0.5).tolist()
    assert float(made(of, AT).total.detach()) == pytest.approx(np.mean(costs), rel=1e-4)


def test_the_context_sees_nothing_of_the_blocks_and_the_target_all() -> None:
    made, of = method(), drawn()
    seen = torch.zeros(5, 64, dtype=torch.bool).scatter(1, of.targets["keep"], True).view(5, 1, 8, 8)
    seen = seen.repeat_interleave(4, 2).repeat_interleave(4, 3)
    other = torch.where(seen, of.views[0], torch.rand_like(of.views[0]))
    assert not torch.equal(other, of.views[0])
    changed = Batch([other], of.index, of.targets)
    torch.testing.assert_close(made.predicted(changed), made.predicted(of))
    assert not torch.allclose(made.targets(changed), made.targets(of))


def test_gradient_reaches_the_encoder_and_never_the_target() -> None:
    made, of = method(), drawn()
    made(of, AT).total.backward()
    assert all(p.grad is None for p in made.target.parameters())
    blocks = made.encoder.backbone.blocks
    assert all(p.grad is not None and p.grad.any() for p in blocks.parameters() if p.requires_grad)
    assert made.predictor.mask.grad.any()


def test_a_block_is_predicted_by_itself_and_knows_where_it_is() -> None:
    """Without blocks of the transformer, a token is the learned one with its position, whatever was seen."""
    made, of = method(), drawn()
    whole = made.predicted(of)
    one = {**of.targets, "hidden": of.targets["hidden"][:, 2:3]}
    torch.testing.assert_close(made.predicted(Batch(of.views, of.index, one)), whole[:, 2:3])
    mixed = {**of.targets, "keep": of.targets["keep"].flip(1)}
    torch.testing.assert_close(made.predicted(Batch(of.views, of.index, mixed)), whole, atol=1e-5, rtol=1e-4)
    made.predictor.blocks = torch.nn.Identity()
    found, where = made.predicted(of), positions(8, 8, 8)
    for i in range(5):
        for b in range(4):
            for t, place in enumerate(of.targets["hidden"][i, b].tolist()):
                expected = made.predictor.tokens(made.predictor.mask[0, 0] + where[place])
                torch.testing.assert_close(found[i, b, t], expected)


def test_the_target_follows_ever_more_slowly() -> None:
    made = method(momentum=0.9)
    weight = made.encoder.backbone.blocks[0].attn.qkv.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1.0)
    made.after_step(AT)
    moved = made.target.module.backbone.blocks[0].attn.qkv.weight
    momentum = cosine_momentum(AT, 0.9)
    assert 0.9 < momentum < 1
    torch.testing.assert_close(moved, momentum * before + (1 - momentum) * weight.detach())


@pytest.mark.parametrize("seed", range(5))
def test_blocks_are_rectangles_and_what_is_seen_is_none_of_them(seed: int) -> None:
    of = drawn(40, seed)
    keep, hidden = of.targets["keep"].numpy(), of.targets["hidden"].numpy()
    assert hidden.shape[:2] == (40, 4)
    sizes = set()
    for i in range(40):
        for places in hidden[i]:
            rows, columns = {p // 8 for p in places}, {p % 8 for p in places}
            assert set(places) == {8 * row + column for row in rows for column in columns}, "a rectangle"
            assert len(rows) == max(rows) - min(rows) + 1 and len(columns) == max(columns) - min(columns) + 1
            sizes.add((len(rows), len(columns)))
        assert not set(keep[i]) & set(hidden[i].ravel())
        assert len(set(keep[i])) == keep.shape[1]
    ((rows, columns),) = sizes  # one size a batch
    assert 0.1 * 64 <= rows * columns <= 0.25 * 64
    assert 0.5 <= rows / columns <= 2
    assert keep.shape[1] >= 0.2 * 64 or keep.shape[1] == min(64 - len(set(hidden[i].ravel())) for i in range(40))


def test_what_is_seen_lies_anywhere_in_its_block() -> None:
    """Not its upper part, where fewer are seen than it has."""
    of = drawn(400, 3)
    rows = of.targets["keep"].numpy() // 8
    assert abs(rows.mean() - 3.5) < 0.2


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="too few to hide blocks of them"):
        drawn(size=8)
    with pytest.raises(UserError, match="leave nothing of an image to be seen: give fewer"):
        drawn(area=(0.9, 1.0))
    with pytest.raises(UserError, match="multiple of 4 and of its 3 heads"):
        method(heads=3)
    made = method()
    with pytest.raises(UserError, match="these views ask for none: give --views blocks"):
        made.check([torch.zeros(2, 3, 32, 32)], {})
    with pytest.raises(UserError, match="and the encoder sees 64, of 4 px: give"):
        of = drawn(2, patch_size=2)
        made.check(of.views, of.targets)
