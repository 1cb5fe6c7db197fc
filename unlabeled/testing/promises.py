"""Rules of what a method says of itself: its options, its cost, the embedding that it compares."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unlabeled import registry
from unlabeled.batch import Progress
from unlabeled.errors import UserError
from unlabeled.losses import info_nce, nt_xent
from unlabeled.methods.base import Method
from unlabeled.probes.extract import features
from unlabeled.recipe import compose
from unlabeled.testing.rule import listed, require, rule
from unlabeled.testing.trial import AT, COUNT, Trial, differing, forward, snapshot


def registered(trial: Trial) -> bool:
    """Whether recipes can name it."""
    return trial.name in registry.names("methods") and registry.get("methods", trial.name) == trial.entry


@rule("Name it under `Args:` in the docstring of the class or of `__init__`, and give it a default that its type takes.")
def options_are_documented(trial: Trial) -> None:
    """Every keyword-only argument of the constructor has a line in a docstring and a default of its type."""
    for option, about in trial.entry.options().items():
        require(about.help, f"{option} is not among the Args of a docstring")
        try:
            taken = registry.coerce(about.default, about.type, option)
        except UserError as error:
            raise AssertionError(f"the default of {error}") from error
        require(taken == about.default, f"the default {about.default!r} of {option} becomes {taken!r}")


@rule("Give options types that text can be turned into: numbers, bool, str, Literal, tuples, or None.", registered)
def options_survive_a_recipe(trial: Trial) -> None:
    """A recipe file and the command line give back the options that went in, and a mistaken one is told its name."""
    recipe, name = compose({"method": trial.name}), trial.name
    require(compose(recipe.to_dict()) == recipe, "a recipe from a file is another one")
    require(set(recipe.method.options) == set(trial.entry.options()), "the recipe has other options")
    words = {f"method.{k}": str(v) for k, v in recipe.method.options.items()}
    require(compose({"method": name}, words) == recipe, "a recipe from words is another one")
    for option in trial.entry.options():
        try:
            trial.entry.resolve({f"{option}x": 1})
        except UserError as error:
            require(f"did you mean '{option}'" in str(error), f"of --method.{option}x is said: {error}")
        else:
            require(False, f"--method.{option}x is taken")


def cost(trial: Trial, epoch: int) -> tuple[int, int]:
    """How often samples are embedded before that epoch, of a hundred, or state is written, such as clusters; and operations
    of its first forward pass."""
    method = late(trial)
    asked: list[nn.Module] = []

    def extract(module: nn.Module, rows: Tensor | None = None) -> Tensor:
        asked.append(module)
        return features(module, trial.samples(), device="cpu", indices=None if rows is None else rows.numpy())

    at, before, drawn = Progress(100 * epoch, 10_000, epoch), snapshot(method), trial.batch(0)
    with torch.no_grad():
        method.before_epoch(at, extract)
    written = differing(before, method.state_dict())
    with FlopCounterMode(display=False) as counted:
        forward(method, drawn, at)
    return len(asked) + len(written), counted.get_total_flops()


def late(trial: Trial) -> Method:
    """The method, of which everything that can begin later begins with the fourth epoch of a hundred."""
    return trial.make(mix_from=3, queue_from=3, warm_up=0.03)


@rule("Let `full_cost_from(epochs)` give the epoch from which on everything is computed.")
def what_costs_more_in_a_later_epoch_is_said(trial: Trial) -> None:
    """Steps, and what comes before an epoch, cost the same from `full_cost_from` on to the end, and before it."""
    first, early, end = late(trial).full_cost_from(100), cost(trial, 1), cost(trial, 99)
    require(bool(first) == (end > early), f"full_cost_from(100) is {first}; epoch 1 costs {early}, epoch 99 {end}")
    if first:
        require(cost(trial, first - 1) == early, f"epoch {first - 1} costs more than epoch 1")
        require(cost(trial, first) == end, f"epoch {first} costs less than epoch 99")


def contrasts(trial: Trial) -> bool:
    """Whether its file uses a contrastive loss with a temperature, and all views could be the same."""
    used = {id(v) for c in trial.entry.make.__mro__ for v in vars(sys.modules[c.__module__]).values()}  # type: ignore[attr-defined]
    if "temperature" not in trial.entry.options() or not used & {id(info_nce), id(nt_xent)}:
        return False
    views = trial.batch(0).views
    return len(views) > 1 and len({view.shape for view in views}) == 1


@rule("Leave anchor and positive out of the negatives.", contrasts)
def a_perfect_match_costs_nothing(trial: Trial) -> None:
    """With both views the same, at a tiny temperature, the loss is nearly 0 (log 2 where the positive is a negative too)."""
    method = trial.make(temperature=1e-5, splits=1)
    if hasattr(method, "predictor"):
        method.predictor = nn.Identity()  # an untrained one does not say what the keys say
    drawn = trial.batch(0)
    drawn.views = [drawn.views[0]] * len(drawn.views)
    loss = float(forward(method, drawn, AT).total.detach())
    require(loss < 0.1, f"the loss is {loss:.3f}")


@rule(
    "Give a module as `projector` (or `g`) that maps (B, encoder.dim) to (B, D), or none.",
    lambda trial: trial.plain.g is not None,
)
def g_makes_an_embedding_of_a_representation(trial: Trial) -> None:
    """The module `g` takes representations (B, dim) and gives one finite row for each."""
    method = trial.make().eval()
    assert method.g is not None
    z = method.g(torch.randn(5, method.encoder.dim))
    require(z.shape[0] == 5, f"of 5 representations g makes {tuple(z.shape)}")
    require(z.isfinite().all(), "g gives numbers that are not finite")


@rule("Prescribe other views in `recipe={...}`, or say how many it compares with `n_views`.")
def the_policy_draws_what_it_compares(trial: Trial) -> None:
    """The policy of its recipe draws as many views as `n_views` says, if it says it."""
    drawn, wanted = len(trial.batch(0).views), trial.plain.n_views
    require(wanted in (None, drawn), f"{drawn} views are drawn, and {wanted} are compared")


@rule("Say it with `sampling`, which gives a weight >= 0 for each training sample, or None.")
def samples_are_drawn_by_weights(trial: Trial) -> None:
    """What `sampling` gives after `before_epoch` is one weight for each of the n samples, not all 0, or None."""
    weights = trial.make().sampling()
    if weights is not None:
        require(weights.shape == (COUNT,), f"of {COUNT} samples it has the shape {tuple(weights.shape)}")
        require((weights >= 0).all() and weights.sum() > 0, f"{listed(set(weights[weights < 0].tolist()))} as weights")
