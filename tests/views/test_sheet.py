"""The contact sheet: what stands where, and that nothing half-written is left."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from unlabeled import registry
from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.registry import Choice
from unlabeled.views.sheet import contact_sheet


def inverted_and_half(fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
    x = fields["image"]
    return [1 - x.float() / 255, x[..., ::2, ::2].float() / 255], {}


def test_originals_come_first_and_then_each_view(tmp_path: Path) -> None:
    x = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    x[0, 0], x[1, 2] = 255, 255  # red, blue
    path = contact_sheet({"image": x}, inverted_and_half, torch.Generator(), tmp_path / "new" / "sheet.png", draws=2)
    assert list(path.parent.iterdir()) == [path]
    image = np.asarray(Image.open(path))
    assert image.shape[0] > 2 * 96
    flat = image.reshape(-1, 3).tolist()
    colours = {tuple(p): flat.count(p) for p in ([255, 0, 0], [0, 0, 255], [0, 255, 255], [255, 255, 0])}
    assert colours == {
        (255, 0, 0): 96 * 96 + 2 * 48 * 48, (0, 0, 255): 96 * 96 + 2 * 48 * 48,
        (0, 255, 255): 2 * 96 * 96, (255, 255, 0): 2 * 96 * 96,
    }  # fmt: skip
    first_red = np.argwhere((image == [255, 0, 0]).all(2)).min(0)
    first_cyan = np.argwhere((image == [0, 255, 255]).all(2)).min(0)
    assert first_red[0] == first_cyan[0] and first_red[1] < first_cyan[1]


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_any_channels_and_the_same_generator_the_same_sheet(tmp_path: Path, channels: int) -> None:
    x = torch.randint(0, 256, (3, channels, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    policy = registry.build("views", Choice("simclr"), DataShape(3, channels, 16))
    files = [
        contact_sheet({"image": x}, policy, torch.Generator().manual_seed(seed), tmp_path / f"{n}.png").read_bytes()
        for n, seed in enumerate((1, 1, 2))
    ]
    assert files[0] == files[1] != files[2]


def test_a_failure_leaves_the_old_sheet_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sheet.png"
    path.write_bytes(b"old")

    def fail(self: Image.Image, target: Path, **options: object) -> None:
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(UserError, match="disk full"):
        contact_sheet({"image": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, inverted_and_half, torch.Generator(), path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


class Halves:
    """Asks which half is missing, and shows the answer."""

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        x = fields["image"].float() / 255
        return [x[..., :4]], {"rest": x[..., 4:]}

    def task(self, views: list[Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"asked": views[0], "true": torch.stack([views[0], targets["rest"]], 1)}


def test_a_policy_with_a_task_shows_what_is_asked_and_what_is_true(tmp_path: Path) -> None:
    """In place of its views; patches side by side, with a gap."""
    x = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    x[:, 0, :, :4], x[:, 2, :, 4:] = 255, 255  # red, blue
    path = contact_sheet({"image": x}, Halves(), torch.Generator(), tmp_path / "sheet.png", draws=2)
    image = np.asarray(Image.open(path))
    zoomed = round(96 / 9)  # 4 + 1 + 4 px
    for colour, of_the_whole, others in (([255, 0, 0], 1, 4), ([0, 0, 255], 1, 2)):
        count = int((image == colour).all(2).sum())
        assert count == of_the_whole * 48 * 96 + others * 4 * 8 * zoomed**2, "twice asked, if it was, and twice true"
