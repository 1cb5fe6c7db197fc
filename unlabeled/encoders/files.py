"""Files of tensors with a description: encoders, and what else a run keeps as safetensors; with a sum of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from unlabeled import forms
from unlabeled.data.kinds.kind import as_then, build
from unlabeled.encoders.encoder import Encoder, renamed
from unlabeled.errors import UserError
from unlabeled.forms import FormError, check, parsed
from unlabeled.kept import Kept
from unlabeled.own import is_given
from unlabeled.registry import Choice

FIRST_KIND = "image"
"""The kind of data of runs that name none, as version 0.1 knew no other."""


def save_encoder(path: Path, encoder: Encoder, choice: Choice, kept: Kept | None = None) -> None:
    """Writes the weights as safetensors, with what is needed to build the network again, and of which epoch it is, as
    metadata."""
    kind = encoder.front.kind
    made = {
        "kind": {"name": kind.name, **kind.options},
        "encoder": {"name": choice.name, **choice.options},
        "channels": encoder.front.channels,
        "tta": encoder.front.tta,
        "whitened": encoder.whitening is not None,
        **({"kept": asdict(kept)} if kept else {}),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in encoder.state_dict().items()}
    save_tensors(path, tensors, made)


def read_encoder(path: Path) -> Encoder:
    """Reads the encoder in a file that `save_encoder` wrote, on the CPU, in evaluation mode.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        tensors, made = read_tensors(path)
        tensors, made = renamed(tensors), _described(made)
        check(made, forms.ENCODER)
        kind, choice = (Choice(made[part].pop("name"), made[part]) for part in ("kind", "encoder"))
        channels, tta, whitened = made["channels"], made["tta"], made["whitened"]
    except (safetensors.SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
        raise damaged(path, error) from error
    try:
        encoder = build(as_then(kind)).encoder(choice, channels, None).with_tta(tta)
        encoder = encoder.whitened() if whitened else encoder
    except UserError:
        raise
    except Exception as error:  # whatever a library raises at options that cannot be
        raise damaged(path, error) from error
    try:
        encoder.load_state_dict(tensors)
    except (RuntimeError, TypeError, ValueError) as error:
        mine = f"the {choice.name} that was given" if is_given("encoders", choice.name) else "this version"
        again = "give the one that it was trained with" if mine != "this version" else "train it anew"
        raise UserError(f"{str(path)!r} holds weights of another network than {mine} builds: {again}") from error
    return encoder.eval()


def _described(made: dict[str, Any]) -> dict[str, Any]:
    """The description of an encoder as version 0.1 wrote it, in the words of today; that of today as it is."""
    if "kind" in made:
        return made
    return {
        "kind": {"name": FIRST_KIND, "size": made["size"], "eval_size": made["eval_size"]},
        "encoder": {"name": made["name"], **made["options"]},
        "channels": made["channels"],
        "tta": made.get("looks", 1),
        "whitened": made.get("whitened", False),
    }


def save_tensors(path: Path, tensors: Mapping[str, Tensor], made: Mapping[str, Any]) -> None:
    """Writes tensors as safetensors, with a description and the sum of both."""
    sum_of_both = _checksum(tensors, json.dumps(made))
    about = {"unlabeled": json.dumps({**made, "checksum": sum_of_both})}  # one key: the library writes several in any order
    saying(lambda p: safetensors.torch.save_file(dict(tensors), p, about))(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `save_tensors` wrote. Files of earlier versions have no sum.

    Raises:
        ValueError: they are not what was written; the library's own errors.
    """
    with safetensors.safe_open(path, "pt") as file:
        made: dict[str, Any] = parsed((file.metadata() or {})["unlabeled"], dict)
    tensors = safetensors.torch.load_file(path)
    if made.pop("checksum", None) not in (None, _checksum(tensors, json.dumps(made))):
        raise ValueError("its checksum differs")
    return tensors, made


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def saying(write: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Returns `write` of a library that has its own words for a full disk."""

    def written(path: Path) -> None:
        try:
            write(path)
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise OSError(" ".join(str(error).split())) from error

    return written


def damaged(path: Path, error: Exception) -> UserError:
    """Returns what to say of a file of a run that is not as it was written."""
    what = str(error) if isinstance(error, FormError) else type(error).__name__
    return UserError(f"{str(path)!r} is missing or damaged ({what}): start a new run with another --out")
