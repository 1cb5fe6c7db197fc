"""How other libraries hold an encoder: the file, and the lines of Python that use it there."""

from __future__ import annotations

import copy
import importlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from unlabeled.console import console
from unlabeled.encoders import Encoder, Lab, Lightness
from unlabeled.encoders.files import save_encoder
from unlabeled.encoders.image import timm_options
from unlabeled.errors import UserError
from unlabeled.exporting.graphs import Images, Recordings, graph_of
from unlabeled.registry import Choice

FILE = "FILE"
"""Stands in the lines for the file, as Python text."""


@dataclass(frozen=True)
class Form:
    """An encoder in the form of one library.

    Attributes:
        write: makes the file.
        imports: lines that the use begins with.
        lines: of Python, from `images` (B, C, H, W) uint8, or `recordings` (B, 1, T) int16, to features `h` (B, D).
        array: whether those are a NumPy array; otherwise a tensor.
        notes: what to know of it.
    """

    write: Callable[[Path], object]
    imports: list[str]
    lines: list[str]
    array: bool = False
    notes: list[str] = field(default_factory=list)

    def code(self, file: str) -> str:
        """Returns the lines for this file."""
        return "\n".join([*self.imports, "", *self.lines]).replace(FILE, repr(file)) + "\n"


def as_torchvision(encoder: Encoder, choice: Choice) -> Form:
    """Makes a state dict for the network of torchvision that has the same name and weights.

    Raises:
        UserError: there is none.
    """
    _alone("torchvision", encoder)
    others = [*(["timm"] if _of_timm(choice) else []), "safetensors", "onnx"]
    if choice.name not in torchvision.models.list_models(module=torchvision.models):
        _refuse("torchvision", f"torchvision has no network {choice.name!r}", others)
    with torch.device("meta"):
        made = torchvision.models.get_model(choice.name)
    changed = _changed(made, encoder.backbone)
    ours, theirs = ({k: tuple(v.shape) for k, v in m.state_dict().items()} for m in (encoder.backbone, made))
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            there, here = theirs.get(name, "missing"), ours.get(name, "missing")
            reason = f"{name} is {there} in torchvision's {choice.name}, and here {here}"
            _refuse("torchvision", reason, others)
    tensors = {k: v.contiguous() for k, v in encoder.backbone.state_dict().items()}
    return Form(
        lambda path: torch.save(tensors, path),
        ["import torch, torchvision", "from torchvision.transforms import v2"],
        [
            f"network = torchvision.models.{choice.name}()",
            *_assign(changed),
            f"network.eval().load_state_dict(torch.load({FILE}, weights_only=True))",
            *_prepared(encoder),
        ],
        notes=_said("torchvision", choice.name, changed),
    )


def as_timm(encoder: Encoder, choice: Choice) -> Form:
    """Makes a state dict for `timm.create_model`.

    Raises:
        UserError: the encoder is two networks, or one that is not timm's own.
    """
    _alone("timm", encoder)
    if not _of_timm(choice):
        _refuse("timm", f"timm has no network {choice.name!r}", ["safetensors", "onnx"])
    options = {"num_classes": 0, "in_chans": encoder.front.channels, **timm_options(choice, encoder.front.size)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = timm.create_model(choice.name, **options)
    changed = _changed(made, encoder.backbone)
    tensors = {k: v.contiguous() for k, v in encoder.backbone.state_dict().items()}
    about = {"unlabeled": json.dumps(_about(encoder, choice) | {"timm": options})}
    arguments = ", ".join([repr(choice.name), *(f"{k}={v!r}" for k, v in options.items())])
    return Form(
        lambda path: safetensors.torch.save_file(tensors, path, about),
        ["import timm, torch", "from safetensors.torch import load_file", "from torchvision.transforms import v2"],
        [
            f"network = timm.create_model({arguments})",
            *_assign(changed),
            f"network.eval().load_state_dict(load_file({FILE}))",
            *_prepared(encoder),
        ],
        notes=_said("timm", choice.name, changed),
    )


def as_safetensors(encoder: Encoder, choice: Choice) -> Form:
    """Makes the whole encoder as it is, with its description as metadata."""
    return Form(
        lambda path: save_encoder(path, encoder, choice),
        ["import json, safetensors, unlabeled"],
        [
            f'about = json.loads(safetensors.safe_open({FILE}, "np").metadata()["unlabeled"])  # name, options, sizes',
            f"encoder = unlabeled.load({FILE})  # in evaluation mode",
            f"h = encoder({graph_of(encoder).noun})",
        ],
        notes=[f"{graph_of(encoder).inside}, as tensors `front.*`; the network's names begin with `backbone.`."],
    )


def as_onnx(encoder: Encoder, choice: Choice) -> Form:
    """Makes one graph, to features (B, D), from images float32 (B, C, H, W) in [0, 1] or recordings (B, 1, T) in [-1, 1];
    all but C and D are free.

    Raises:
        UserError: packages are missing.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(
                f"format 'onnx' needs the package {package}, which is missing: pip install 'unlabeled[onnx]', "
                "or give --format safetensors"
            ) from error
    graph = graph_of(encoder)(copy.deepcopy(encoder))

    def write(path: Path) -> None:
        model = _onnx(graph)
        model.metadata_props.add(key="unlabeled", value=json.dumps(_about(encoder, choice)))
        path.write_bytes(model.SerializeToString())

    return Form(
        write,
        ["import numpy as np", "import onnxruntime"],
        [
            f'session = onnxruntime.InferenceSession({FILE}, providers=["CPUExecutionProvider"])',
            f'h = session.run(["features"], {{"{graph.noun}": np.float32({graph.noun}) / {graph.largest}}})[0]',
        ],
        array=True,
        notes=[f"{graph.inside}; their number and size are free."],
    )


FORMS: dict[str, tuple[str, Callable[[Encoder, Choice], Form]]] = {
    "torchvision": ("torchvision.pth", as_torchvision),
    "timm": ("timm.safetensors", as_timm),
    "safetensors": ("encoder.safetensors", as_safetensors),
    "onnx": ("encoder.onnx", as_onnx),
}
"""The usual name of the file, and what makes the form."""


def _of_timm(choice: Choice) -> bool:
    """Whether timm alone can build it: its catalogue also holds ours."""
    return bool(timm.models.model_entrypoint(choice.name).__module__.startswith("timm."))


def _onnx(graph: Images | Recordings) -> Any:
    """The graph as ONNX's model.

    Raises:
        UserError: the network holds what ONNX has no word for.
    """
    free = {place: torch.export.Dim(name) for place, name in graph.free.items()}
    console().print("converting to ONNX, which takes some seconds", soft_wrap=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph.eval(), (graph.example(),), dynamo=True, dynamic_shapes=(free,), verbose=False,
                input_names=[graph.noun], output_names=["features"],
            )  # fmt: skip
        return program.model_proto if program is not None else None
    except Exception as error:  # the exporter raises anything on what it does not know
        able = [*([] if _beyond(graph.encoder) else ["timm"]), "safetensors"]
        _refuse("onnx", " ".join(str(error).split())[:200], able)


def _changed(made: nn.Module, ours: nn.Module) -> dict[str, nn.Module]:
    """Puts into `made` what was changed in `ours`, and tells what that is: convolutions, and parts that were left out."""
    found: dict[str, nn.Module] = {}
    for name, part in list(made.named_children()):
        own = getattr(ours, name, None)
        if isinstance(own, nn.Conv2d | nn.Identity) and repr(own) != repr(part):
            found[name] = own
            setattr(made, name, own)
    return found


def _assign(changed: dict[str, nn.Module]) -> list[str]:
    names = ", ".join(f"network.{name}" for name in changed)
    return [f"{names} = " + ", ".join(f"torch.nn.{part!r}" for part in changed.values())] if changed else []


def _said(library: str, name: str, changed: dict[str, nn.Module]) -> list[str]:
    parts = {k: "nothing" if isinstance(v, nn.Identity) else repr(v) for k, v in changed.items()}
    said = [f"Not as in {library}'s {name}: {', '.join(f'`{k}` is {v}' for k, v in parts.items())}."] if parts else []
    return [*said, "The weights hold neither the resize nor the normalisation: `prepare` does both."]


def _prepared(encoder: Encoder) -> list[str]:
    """Squares, as `unlabeled.data.kinds.fit` makes them; values to [0, 1] before a resize of whole numbers would round; then
    the features."""
    mean, std = _about_values(encoder.front.mean), _about_values(encoder.front.std)
    side, fit = encoder.front.eval_size, encoder.front.fit
    lines, taken, size = ["height, width = images.shape[-2:]"], "images", f"({side}, {side})"
    if fit == "crop":
        lines.append("side = min(height, width)")
        taken = "images[..., (height - side) // 2 :, (width - side) // 2 :][..., :side, :side]"
    if fit == "pad":
        size = "(high, wide)"
        rounded = (f"max(1, (2 * {side} * {n} + longest) // (2 * longest))" for n in ("height", "width"))
        lines += ["longest = max(height, width)", f"high, wide = {', '.join(rounded)}"]
        lines.append(f"left, top = ({side} - wide) // 2, ({side} - high) // 2")
    pad = f", v2.Pad([left, top, {side} - wide - left, {side} - high - top])" * (fit == "pad")
    steps = f"v2.ToDtype(torch.float32, scale=True), v2.Resize({size}){pad}, v2.Normalize({mean}, {std})"
    made = [f"prepare = v2.Compose([{steps}])", f"h = network(prepare({taken}))"]
    return made if fit == "stretch" else [*lines, *made]


def _about_values(values: Tensor) -> list[float]:
    """The shortest numbers that are these in float32."""
    return [float(str(value)) for value in values.flatten().numpy().astype(np.float32)]


def _about(encoder: Encoder, choice: Choice) -> dict[str, Any]:
    sizes = {"channels": encoder.front.channels, "size": encoder.front.size, "eval_size": encoder.front.eval_size}
    values = {name: _about_values(value) for name, value in encoder.front.named_buffers()}
    kind = {"name": encoder.front.kind.name, **encoder.front.kind.options}
    return {"name": choice.name, "options": dict(choice.options), "kind": kind, **sizes, **values}


def _alone(name: str, encoder: Encoder) -> None:
    if reason := _beyond(encoder):
        _refuse(name, reason, ["safetensors", "onnx"])


def _beyond(encoder: Encoder) -> str:
    """What it does beyond one network on one image; nothing, if it does not."""
    if encoder.front.kind.name != "image":
        return f"it is a network for data of kind {encoder.front.kind.name}"
    if isinstance(encoder.backbone, Lab):
        return "it is two networks, of lightness and of colours (--encoder.streams lab)"
    if isinstance(encoder.backbone, Lightness):
        return "its network sees lightness alone (--encoder.streams lightness)"
    if encoder.whitening is not None:
        return "what the network gives is whitened (--whiten)"
    return f"it is the mean of {encoder.front.tta} forms of an image (--tta)" if encoder.front.tta > 1 else ""


def _refuse(name: str, reason: str, able: list[str]) -> Any:
    raise UserError(f"format {name!r} cannot express this encoder ({reason}): give --format {' or '.join(able)}")
