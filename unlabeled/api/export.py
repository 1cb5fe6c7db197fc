"""The verb that hands an encoder to other libraries: export. As light to import as `api`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unlabeled.about import About, takes_data

if TYPE_CHECKING:
    from unlabeled.exporting.export import Exported


@takes_data
def export(
    run: str | Path,
    /,
    *,
    format: str,
    out: str | Path | None = None,
    data: Any = None,
    **about: Unpack[About],
) -> Exported:
    """Write the encoder of a run for another library, and check that it gives the same features there.

    Beside the file lies one of the same name and `.md`, with the lines of Python that use it. These very lines were run, on
    random images and on some of `--data`; unless every feature h agrees with the run's to 1e-4 · max(1, |h|), nothing is
    written.

    Args:
        run: folder of the run.
        format: torchvision (a state dict for one of its networks), timm (likewise), safetensors (the whole encoder with its
            description as metadata; any encoder) or onnx (the whole encoder as one graph; needs `pip install
            unlabeled[onnx]`).
        out: file to write (default: in the run's folder export/torchvision.pth, timm.safetensors, encoder.safetensors or
            encoder.onnx).
        data: images to check on too, as for `pretrain` (default: random images only).
        about: what holds of the data, the same for every verb: see `unlabeled.about.About`.

    Returns:
        The file, its description, and how far the features differ.

    Raises:
        UserError: the format cannot express this encoder, with those that can; or anything else that the user can put right.
    """
    from unlabeled.exporting.export import export as export_it

    return export_it(run, format, None if out is None else Path(out), data=data, about=about)
