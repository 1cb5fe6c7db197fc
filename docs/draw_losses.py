"""Draws docs/losses.svg: every loss against the similarity of the anchor's positive, and of its negative.

    python docs/draw_losses.py

The curves are calls of `unlabeled.losses`; the file is written as text, so nothing is needed to draw it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from unlabeled import losses

POINTS = 81
ALONE, WITH = 0.0, 0.5
"""Where the negative stays while the positive moves, and where the positive stays while the negative moves."""
COLUMNS, WIDTH, HEIGHT, LEFT, TOP = 4, 232, 168, 38, 64
BLUE, ORANGE, GREY = "#1f6fb4", "#d9680f", "#666666"

Curve = Callable[[float, float], Tensor]


def vectors(s: float, t: float) -> tuple[Tensor, Tensor, Tensor]:
    """Anchor, a positive at cosine s to it, a negative at cosine t: (1, 3) each, of length 1."""
    a = [1.0, 0.0, 0.0]
    p = [s, max(0.0, 1 - s * s) ** 0.5, 0.0]
    n = [t, 0.0, max(0.0, 1 - t * t) ** 0.5]
    return tuple(torch.tensor([v], dtype=torch.float64) for v in (a, p, n))  # type: ignore[return-value]


def labelled(loss: Callable[..., Tensor], *options: float) -> Curve:
    return lambda s, t: loss(torch.cat(vectors(s, t)), torch.tensor([0, 0, 1]), *options, reduction="none")[0]


def views(loss: Callable[..., Tensor], *options: float) -> Curve:
    def curve(s: float, t: float) -> Tensor:
        a, p, n = vectors(s, t)
        return loss(torch.cat([a, n]), torch.cat([p, n]), *options, reduction="none")[0]

    return curve


def info_nce(s: float, t: float) -> Tensor:
    a, p, n = vectors(s, t)
    return losses.info_nce(a, n, p, 0.07)


def local_infomax(s: float, t: float) -> Tensor:
    a, p, n = vectors(s, t)
    return losses.local_infomax(torch.cat([5 * a, n]), torch.stack([p, n]), reduction="none")[0]


def soft_cross_entropy(s: float, t: float) -> Tensor:
    return losses.soft_cross_entropy(torch.tensor([[5 * s, 5 * t]]), torch.tensor([[0]]), torch.ones(1, 1))


def clipped_infomax(s: float, t: float) -> Tensor:
    a, p, n = vectors(s, t)
    return losses.clipped_infomax(torch.cat([9 * a, n]), torch.stack([p, n]), reduction="none")[0]


def local_aggregation(s: float, t: float) -> Tensor:
    return losses.local_aggregation(torch.tensor([[s, t]]), torch.tensor([[True, False]]))


def masked_square(s: float, t: float) -> Tensor:
    asked = torch.tensor([[[True, True]]])
    return losses.masked_square(torch.tensor([[[s, t]]]), torch.tensor([[[1.0, 0.0]]]), asked.float(), asked)


def triplet(s: float, t: float) -> Tensor:
    return losses.triplet(*vectors(s, t))


def nce(s: float, t: float) -> Tensor:
    zero = torch.zeros(1)
    return losses.nce(torch.tensor([5 * s]), torch.tensor([5 * t]), zero, zero)


def prototypes(s: float, t: float) -> Tensor:
    a, p, n = vectors(s, t)
    return losses.proto_nce(a, a, [torch.cat([p, n])], [torch.tensor([0])], [torch.tensor([0.2, 0.2])])


def swapped(s: float, t: float) -> Tensor:
    scores = torch.tensor([[s, t]])
    return losses.swapped_prediction([scores, scores], [torch.tensor([[1.0, 0.0]])])


SIGNS = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])


def correlated(c: float) -> tuple[Tensor, Tensor]:
    """A dimension of variance 1, and another that correlates with it by c."""
    return SIGNS[:, 0], c * SIGNS[:, 0] + (1 - c * c) ** 0.5 * SIGNS[:, 2]


def barlow(s: float, t: float) -> Tensor:
    x, y = correlated(s)
    return losses.barlow_twins(torch.stack([x, SIGNS[:, 1]], 1), torch.stack([y, correlated(t)[1]], 1), reduction="none")[0]


def vicreg(s: float, t: float) -> Tensor:
    x, y = correlated(s)
    return losses.vicreg(*(torch.stack([v, v * t + SIGNS[:, 1]], 1) for v in (x, y)))


def contrastive(same: bool) -> Curve:
    def curve(s: float, t: float) -> Tensor:
        a, p, n = vectors(s, t)
        return losses.contrastive(a, p if same else n, torch.tensor([same]))

    return curve


def multi_patch(s: float, t: float) -> Tensor:
    a, p, n = vectors(s, t)
    return losses.multi_patch(torch.stack([torch.cat([a, n]), torch.cat([p, n])]), invariance=1.0)


def byol(s: float, t: float) -> Tensor:
    a, p, _ = vectors(s, t)
    return losses.byol(a, p)


def counting(s: float, t: float) -> Tensor:
    a, p, n = vectors(s, t)
    return losses.counting(p, n, a, margin=1.0)


PANELS: dict[str, tuple[Curve, Curve | None]] = {
    "contrastive": (contrastive(True), contrastive(False)),
    "triplet": (triplet, triplet),
    "lifted_structure": (labelled(losses.lifted_structure),) * 2,
    "n_pair": (views(losses.n_pair),) * 2,
    "nce (x: score / 5)": (nce, nce),
    "info_nce, τ 0.07": (info_nce, info_nce),
    "local_infomax (x: score / 5)": (local_infomax, local_infomax),
    "soft_cross_entropy (x: logit / 5)": (soft_cross_entropy, soft_cross_entropy),
    "clipped_infomax (x: score / 5)": (clipped_infomax, clipped_infomax),
    "local_aggregation, τ 0.07": (local_aggregation, local_aggregation),
    "masked_square (x: value, for 1 and 0)": (masked_square, masked_square),
    "nt_xent, τ 0.5": (views(losses.nt_xent),) * 2,
    "debiased_nt_xent, τ 0.5, τ⁺ 0.1": (views(losses.debiased_nt_xent),) * 2,
    "nt_logistic, τ 0.5": (views(losses.nt_logistic),) * 2,
    "margin_triplet, m 0.8": (views(losses.margin_triplet),) * 2,
    "soft_nearest_neighbor, T 1": (labelled(losses.soft_nearest_neighbor),) * 2,
    "supervised_contrastive, τ 0.1": (labelled(losses.supervised_contrastive),) * 2,
    "proto_nce, φ 0.2": (prototypes, prototypes),
    "swapped_prediction, τ 0.1": (swapped, swapped),
    "barlow_twins (x: correlation)": (barlow, barlow),
    "vicreg (x: correlation)": (vicreg, None),
    "multi_patch, λ 1": (multi_patch, multi_patch),
    "byol": (byol, None),
    "counting, M 1": (counting, counting),
}


def panel(name: str, curves: tuple[Curve, Curve | None], x0: float, y0: float) -> str:
    xs = torch.linspace(-1, 1, POINTS).tolist()
    positive, negative = curves
    lines = [(BLUE, [float(positive(x, ALONE)) for x in xs])]
    if negative is not None:
        lines.append((ORANGE, [float(negative(WITH, x)) for x in xs]))
    w, h, top = WIDTH - LEFT - 18, HEIGHT - 58, max(max(ys) for _, ys in lines)
    parts = [f'<g transform="translate({x0 + LEFT},{y0 + 22})">', f'<text y="-8" class="name">{name}</text>']
    for x, words in ((0, "-1"), (w / 2, "0"), (w, "1")):
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y2="{h}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{h + 14}" text-anchor="middle">{words}</text>')
    for y, words in ((h, "0"), (0, f"{top:.3g}")):
        parts.append(f'<line x2="{w}" y1="{y}" y2="{y}" class="grid"/>')
        parts.append(f'<text x="-5" y="{y + 4}" text-anchor="end">{words}</text>')
    for colour, ys in lines:
        points = " ".join(f"{w * (x + 1) / 2:.1f},{h * (1 - y / top):.1f}" for x, y in zip(xs, ys, strict=True))
        parts.append(f'<polyline points="{points}" stroke="{colour}"/>')
    return "\n".join([*parts, "</g>"])


def main() -> None:
    rows = -(-len(PANELS) // COLUMNS)
    wide, high = COLUMNS * WIDTH + 8, TOP + rows * HEIGHT
    style = (
        "text{font:10px sans-serif;fill:#666}.name{font-weight:bold;font-size:11px;fill:#222}"
        ".grid{stroke:#ddd}polyline{fill:none;stroke-width:2}"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}">',
        f'<style>{style}</style><rect width="{wide}" height="{high}" fill="white"/>',
        '<text x="12" y="22" style="font-size:14px;fill:#222">Loss of one anchor against the cosine similarity</text>',
        f'<text x="12" y="42" style="font-size:12px;fill:{BLUE}">of its positive (the negative stays at {ALONE:g})</text>',
        f'<text x="270" y="42" style="font-size:12px;fill:{ORANGE}">of its negative (the positive stays at {WITH:g})</text>',
    ]
    for i, (name, curves) in enumerate(PANELS.items()):
        parts.append(panel(name, curves, i % COLUMNS * WIDTH, TOP + i // COLUMNS * HEIGHT))
    Path(__file__).with_name("losses.svg").write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
