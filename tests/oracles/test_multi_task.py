"""Several tasks at once: the weighted sum and learned weights in loops, whose gradient goes where, columns of labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import ONE, file, images, mistake, ok
from PIL import Image
from torch import Tensor

from unlabeled import registry
from unlabeled.batch import Batch, DataShape, Fields
from unlabeled.encoders import build_encoder
from unlabeled.optim.optimizers import Optimizers
from unlabeled.probes.paired import paired
from unlabeled.probes.tasks import Told, spelled
from unlabeled.recipe import compose
from unlabeled.registry import Choice
from unlabeled.run import Run
from unlabeled.training.given import name_method
from unlabeled.views.policies.tasks import apart

from .small import array, at

SHAPE = DataShape(12, 3, 16)
LABELLED = replace(SHAPE, classes=3, columns=(("form", 3), ("hue", 2)))
TOLD = torch.tensor([[0, 1], [2, -1], [1, 0], [-1, -1], [0, 1], [1, 1]])
"""Labels of two columns, some of them missing."""
PRETEXT = [
    "colorization", "context-encoder", "counting", "exemplar", "jigsaw", "relative-patch", "split-brain", "super-resolution",
]  # fmt: skip
WORDS = ("--method", "multi-task", *ONE)


def make(*tasks: str, shape: DataShape = SHAPE, **options: Any) -> Any:
    """The method on the small encoder that its recipe prescribes, in training mode."""
    torch.manual_seed(0)
    given = {"method": {"tasks": tasks}, "more_labels": [name for name, _ in shape.columns]}
    prescribed = registry.get("methods", "multi-task").prescribed("", given)
    streams = {"streams": prescribed["encoder.streams"]} if "encoder.streams" in prescribed else {}
    encoder = build_encoder(Choice("resnet10t", {"width": 4, **streams}), 3, 16, torch.zeros(3), torch.ones(3))
    return registry.build("methods", Choice("multi-task", {"tasks": tasks, **options}), encoder, shape).train()


def drawn(*tasks: str, n: int = 6) -> Batch:
    """Views of random images, as the tasks' policies draw them."""
    x: Fields = {
        "image": torch.randint(0, 256, (n, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    }
    policy = registry.build("views", Choice("tasks", {"tasks": tasks}), SHAPE)
    views, targets = policy(x, torch.Generator().manual_seed(2))
    return Batch(views, torch.arange(n), targets)


def labelled(*tasks: str) -> Batch:
    """The same, and labels of two columns."""
    batch = drawn(*tasks, "supervised")
    batch.targets["label"] = TOLD
    return batch


def in_loops(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy of those with a label."""
    costs = [np.log(np.exp(row - row[label]).sum()) for row, label in zip(logits, labels, strict=True) if label >= 0]
    return float(np.mean(costs))


def slopes(loss: Tensor, *parts: torch.nn.Module) -> list[bool]:
    """Whether each part gets any gradient."""
    found = []
    for part in parts:
        each = torch.autograd.grad(loss, list(part.parameters()), allow_unused=True, retain_graph=True)
        found.append(any(g is not None and bool(g.abs().sum() > 0) for g in each))
    return found


def loss_of_each(method: Any, batch: Batch) -> list[float]:
    """Rotation and relative patches, from what the encoder makes of each view."""
    (turned,), turns = batch.views[:1], batch.targets["0.rotation"]
    (patches,), position = batch.views[1:2], batch.targets["1.position"]
    rotation, relative = method.each()
    logits = rotation.classifier(method.encoder(turned.flatten(0, 1)))
    pairs = relative.logits(patches).flatten(0, 1)
    return [in_loops(array(logits), turns.flatten().numpy()), in_loops(array(pairs), position.flatten().numpy())]


@pytest.mark.parametrize("weights", ["equal", (2.0, 0.5), "learned"])
def test_the_objective_is_the_weighted_sum(weights: Any) -> None:
    tasks = ("rotation", "relative-patch")
    method, batch = make(*tasks, weights=weights), drawn(*tasks)
    if weights == "learned":
        with torch.no_grad():
            method.log_variance.copy_(torch.tensor([0.7, -1.2]))
    loss, each = method(batch, at()), loss_of_each(method, batch)
    expected = 0.0
    for place, one in enumerate(each):
        if weights == "learned":
            s = [0.7, -1.2][place]
            expected += np.exp(-s) * one + s
        else:
            expected += one * (1.0 if weights == "equal" else weights[place])
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-5)
    assert [float(loss.terms[f"{task}_loss"]) for task in tasks] == pytest.approx(each, rel=1e-5)


def test_learned_weights_are_best_where_each_is_the_log_of_its_loss() -> None:
    tasks = ("rotation", "relative-patch")
    method, batch = make(*tasks, weights="learned"), drawn(*tasks)
    each = torch.tensor(loss_of_each(method, batch))
    with torch.no_grad():
        method.log_variance.copy_(each.log())
    best = method(batch, at()).total
    (slope,) = torch.autograd.grad(best, method.log_variance)
    torch.testing.assert_close(slope, torch.zeros(2), atol=1e-5, rtol=0)
    assert float(best.detach()) == pytest.approx(float((1 + each.log()).sum()), rel=1e-5)
    for moved in ([0.3, 0.0], [-0.3, 0.0], [0.0, 0.3], [0.0, -0.3]):
        with torch.no_grad():
            method.log_variance.copy_(each.log() + torch.tensor(moved))
        assert float(method(batch, at()).total.detach()) > float(best.detach())


@pytest.mark.parametrize("task", PRETEXT)
def test_the_gradient_of_each_task_reaches_the_trunk_and_its_own_head_alone(task: str) -> None:
    tasks = ("rotation", task)
    batch = drawn(*tasks)
    for weights, heads in (((1.0, 0.0), [True, False]), ((0.0, 1.0), [False, True])):
        method = make(*tasks, weights=weights)
        with torch.no_grad():
            for values in method.parameters():
                values += 0.01 * torch.randn_like(values) * (values == 0)  # super-resolution begins with nothing to say
        loss = method(batch, at()).total
        assert slopes(loss, method.encoder) == [True]
        own = [
            torch.nn.ModuleList(part for name, part in one.named_children() if name != "encoder") for one in method.each()
        ]
        assert slopes(loss, *own) == heads


def test_a_critic_of_a_task_keeps_its_optimiser_and_a_queue_is_filled() -> None:
    method = make("context-encoder", "moco")
    assert list(method.parts) == ["tasks.context-encoder.critic"]
    held = Optimizers(method, Choice("adamw"), method.parts).held
    assert list(held) == ["", "tasks.context-encoder.critic"]
    loss = method(drawn("context-encoder", "moco"), at())
    assert list(loss.rivals) == ["tasks.context-encoder.critic"]
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.observe(loss, at())
    method.after_step(at())
    changed = {name.split(".")[1] for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"moco"}


def test_views_of_each_task_are_those_that_it_prescribes() -> None:
    tasks = ("rotation", "counting", "jigsaw")
    batch = drawn(*tasks)
    parts = apart(batch.views, batch.targets)
    assert [len(views) for views, _ in parts] == [1, 2, 1]
    assert set(parts[2][1]) == {"permutation", "order", "orders", "views"}
    policy = registry.build("views", Choice("tasks", {"tasks": tasks}), SHAPE)
    shown = policy.task(batch.views, batch.targets)
    assert list(shown) == ["rotation: view 1", "counting: whole", "counting: quarters", "jigsaw: shuffled", "jigsaw: true"]
    method = make(*tasks).eval()
    method.encoder.front.train()  # as reports draw: views have the size of training
    drawings = method.pictures(batch, at())
    assert {"jigsaw: predicted", "counting: whole"} <= drawings.keys()


def test_the_recipe_follows_the_tasks() -> None:
    grey = compose({"method": "multi-task"}, {"method.tasks": "rotation,jigsaw"})
    assert (grey.views.name, grey.views.options["tasks"]) == ("tasks", ("rotation", "jigsaw"))
    assert "streams" not in grey.encoder.options
    usual = compose({"method": "multi-task"})
    assert usual.views.options["tasks"] == ("relative-patch", "colorization", "exemplar")
    assert usual.encoder.options["streams"] == "lightness", "as for colorization, so for all"
    labels = compose({"method": "multi-task", "label": "a", "more_labels": ["b"]})
    assert labels.views.options["tasks"] == ("supervised",)
    assert compose(labels.to_dict()) == labels


def test_columns_of_labels_in_loops_and_a_network_that_learns_each_alone() -> None:
    method, batch = make(shape=LABELLED), labelled()
    loss, x = method(batch, at()), batch.views[0]
    each = [in_loops(array(head(method.encoder(x))), TOLD[:, i].numpy()) for i, head in enumerate(method.classifiers)]
    assert float(loss.total.detach()) == pytest.approx(sum(each), rel=1e-5)
    assert float(loss.rivals["alone"].detach()) == pytest.approx(sum(each), rel=1e-5), "they begin with the same weights"
    known = TOLD[:, 0] >= 0
    right = (method.classifiers[0](method.encoder(x)).argmax(1) == TOLD[:, 0])[known].float().mean()
    assert float(loss.terms["form_accuracy"]) == pytest.approx(float(right))
    assert slopes(loss.total, method.encoder, method.alone) == [True, False]
    assert slopes(loss.rivals["alone"], method.encoder, *method.alone) == [False, True, True]
    both = make("rotation", shape=LABELLED, alone=False)
    assert both.names == ["rotation", "form", "hue"]
    more = both(labelled("rotation"), at())
    assert not more.rivals
    assert {"rotation_loss", "form_loss", "hue_loss"} <= more.terms.keys()
    assert not both.adds_up
    assert make("rotation", "jigsaw").adds_up


def test_the_words_beside_single_task_learning() -> None:
    rng = np.random.default_rng(0)
    right, alone = (rng.random(200) < 0.9).astype(float), (rng.random(200) < 0.6).astype(float)
    gain, half = paired(right[None], alone[None])
    assert gain > half
    better, worse, even, bare = spelled(
        [*map(Told, "abc", (right, alone, right), (alone, right, right)), Told("d", right, None)], "images"
    )
    assert better.startswith(f"a: {100 * right.mean():.1f}% of 200 test images, learned with the others")
    assert f"(better: {100 * gain:+.1f} ± {100 * half:.1f} points)" in better
    assert "(worse: -" in worse
    assert "(no clear difference: +0.0" in even
    assert bare == f"d: {100 * right.mean():.1f}% of 200 test images"


def listed(path: Path) -> Path:
    """Sixty images with two columns of classes."""
    path.mkdir()
    x, y = images(60)
    lines = ["file,form,hue,one"]
    for i, image in enumerate(x):
        Image.fromarray(image).save(path / f"{i}.png")
        lines.append(f"{i}.png,{'abc'[y[i]]},{'de'[i // 3 % 2]},same")
    (path / "list.csv").write_text("\n".join(lines))
    return path / "list.csv"


def test_two_columns_from_the_command_line(tmp_path: Path) -> None:
    data, out = listed(tmp_path / "data"), tmp_path / "run"
    said = ok("pretrain", data, *WORDS, "--label", "form", "--label", "hue", "--out", out)
    assert "Not used of the columns: one (labels: form)." in said
    for column in ("form", "hue"):
        assert f"{column}: " in said
    assert said.count("by a network that learned it alone (") == 2
    run = Run.open(out)
    assert (run.recipe.label, run.recipe.more_labels) == ("form", ("hue",))
    assert {"form_accuracy", "hue_alone_accuracy"} <= run.history[1].keys() | run.history[-2].keys()
    ok("evaluate", out, "--protocol", "tasks", "--protocol", "knn", "--against", "none", "--draws", 1)
    ok("report", out)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "hue alone" in page
    assert "by a network that learned it alone" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method.tasks", "rotation,jigsa"], "unknown method 'jigsa'; did you mean 'jigsaw'?"),
        (["--method.tasks", "rotation"], "'rotation' is one task alone, and the method learns several"),
        (["--method.tasks", "rotation,jigsaw,rotation"], "the task 'rotation' is given twice: give each once"),
        (["--method.tasks", "rotation,supervised"], "the task 'supervised' is not possible"),
        (["--method.tasks", "rotation,random"], "the task 'random' is not possible"),
        (["--method.tasks", "rotation,multi-task"], "the task 'multi-task' is not possible"),
        (
            ["--method.tasks", "rotation,super-resolution", "--method.weights", "1,2,3"],
            "weights 1,2,3 do not fit the 2 tasks",
        ),
        (
            ["--method.tasks", "rotation,super-resolution", "--views", "turns"],
            "and these views are for 0: leave --views out",
        ),
        (["--method.tasks", "colorization,split-brain"], "--encoder.streams is lightness and lab: leave one of them out"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    assert said in mistake("pretrain", file(tmp_path / "x.npz"), *WORDS, *words, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_colours_are_not_asked_of_grey_images(tmp_path: Path) -> None:
    grey = file(tmp_path / "x.npz", channels=1)
    said = mistake("pretrain", grey, *WORDS, "--method.tasks", "rotation,colorization", "--out", tmp_path / "run")
    assert "images of 3 channels (RGB), and these have 1: give images in colour" in said
    ok("pretrain", grey, *WORDS, "--method.tasks", "rotation,super-resolution", "--out", tmp_path / "run")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "simclr", "--label", "form", "--label", "hue"], "takes one column of labels, and --label names 2"),
        (["--method", "multi-task", "--label", "form", "--label", "form"], "--label form is given twice"),
        (["--method", "multi-task", "--label", "form", "--label", "one"], "--label one: there is one class alone, same"),
        (["--method", "multi-task", "--label", "form", "--label", "hu"], "'hu'"),
    ],
)
def test_columns_that_cannot_be_learned(words: list[str], said: str, tmp_path: Path) -> None:
    assert said in mistake("pretrain", listed(tmp_path / "data"), *ONE, *words, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_class_that_inherits_has_views_that_follow_its_tasks() -> None:
    class Mine(type(make("rotation", "jigsaw"))):  # type: ignore[misc]
        """A class of a user's own."""

    recipe = compose({"method": name_method(Mine)}, {"method.tasks": "rotation,jigsaw"})
    assert recipe.views.options["tasks"] == ("rotation", "jigsaw")
