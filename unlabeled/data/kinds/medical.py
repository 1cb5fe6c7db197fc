"""Medical images: DICOM (pydicom) and NIfTI (nibabel), which come with the extra `medical`."""

from __future__ import annotations

import importlib
import importlib.util
import io
import math
import re
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data.kinds.stored import BadImageError, Stored
from unlabeled.data.room import RAW
from unlabeled.files import open_regular

SUFFIXES = frozenset({".dcm", ".dicom", ".nii", ".nii.gz"})
INSTALL = "pip install 'unlabeled[medical]'"
_GZIP = b"\x1f\x8b"

MANY = 5
"""Folders whose names differ by a number alone that are rather patients than classes, such as grades. Ours."""
_PERSON = re.compile(r"(patient|patients|pat|pt|subject|subj|sub|case|participant|person|p|s)[-_ ]?\d+", re.IGNORECASE)

Array = np.ndarray[Any, Any]


class MissingPackageError(BadImageError):
    """A medical image, where what reads those is not installed."""


def is_one(data: bytes) -> bool:
    """Tells whether a file begins as DICOM, NIfTI, or what is packed with gzip as NIfTI is."""
    return data[128:132] == b"DICM" or data[344:347] in (b"n+1", b"ni1") or data[4:7] == b"n+2" or data.startswith(_GZIP)


def is_dicom(path: Path) -> bool:
    """Tells whether a file whose name has no suffix, or a number in its place as in `1.2.840.10008`, begins as DICOM."""
    last = path.name.rpartition(".")[2]
    if last.endswith("]") or not (last == path.name or last.isdigit()):  # `digits[3]` is no file
        return False
    try:
        with open_regular(path) as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def open_medical(data: bytes) -> Stored:
    """Reads the header of a file.

    Raises:
        MissingPackageError: pydicom or nibabel is not installed.
        BadImageError: no pictures in it, or too large a file once decompressed.
    """
    return _dicom(data) if data[128:132] == b"DICM" else _nifti(_unpacked(data))


def patient_of(path: str) -> str:
    """Returns what a path says of the patient: its part `sub-...`, as BIDS has it; "" for nothing."""
    found = re.search(r"(?:^|/)(sub-[^/_.]+)", path)
    return found[1] if found else ""


def are_patients(folders: Sequence[str], patients: Sequence[str]) -> bool:
    """Tells whether the folders of some files are patients rather than classes: each holds all files of one, as the files
    say; or, where none of them says whose it is, their names say so, or differ by a number alone and are many.

    Args:
        folders: of each file, "" for none.
        patients: of each file, "" where it does not say.
    """
    names = set(folders)
    if len(names) < 2 or "" in names:
        return False
    if all(patients):
        return len(set(zip(folders, patients, strict=True))) == len(names) == len(set(patients))
    alike = len({re.sub(r"\d+", "#", name) for name in names}) == 1 and all(map(re.compile(r"\d").search, names))
    return not any(patients) and alike and (len(names) >= MANY or all(map(_PERSON.match, names)))


def is_readable() -> bool:
    """Tells whether what reads DICOM is installed."""
    return importlib.util.find_spec("pydicom") is not None


def _library(name: str, form: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingPackageError(f"{form} is read by {name}, which is not installed: {INSTALL}") from None


def _dicom(data: bytes) -> Stored:
    pydicom = _library("pydicom", "DICOM")
    header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    if "Rows" not in header or "Columns" not in header:
        raise BadImageError("a DICOM file without a picture")
    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise BadImageError("a DICOM file of a palette, which is not read: convert it to RGB")
    samples = int(header.get("SamplesPerPixel", 1))
    centre, width = _said(header, "WindowCenter"), _said(header, "WindowWidth")
    window = None
    if samples == 1 and centre is not None and width is not None:
        reach = max(0.0, width - 1) / 2  # part 3 of the standard, C.11.2.1.2
        window = (centre - 0.5 - reach, centre - 0.5 + reach)
    slope, intercept = _said(header, "RescaleSlope") or 1.0, _said(header, "RescaleIntercept") or 0.0
    real = samples == 1 and ((slope, intercept) != (1, 0) or window is not None)
    bits = int(header.get("BitsAllocated", 16))
    plain = f"{'int' if header.get('PixelRepresentation', 0) else 'uint'}{bits}"
    pixels = int(header.Rows) * int(header.Columns) * samples
    rescaled = (slope, intercept) if real else None
    return Stored(
        int(header.Rows), int(header.Columns), samples, "float32" if real else plain,
        partial(_load_dicom, data, rescaled), lambda least: pixels * (bits // 8 + 12),
        pages=int(header.get("NumberOfFrames", 1) or 1), noun="slice", colour=samples == 3,
        inverted=header.get("PhotometricInterpretation") == "MONOCHROME1", window=window,
        patient=str(header.get("PatientID", "") or header.get("PatientName", "") or ""),
    )  # fmt: skip


def _said(header: Any, name: str) -> float | None:
    """A number of the header, the first of several, or of what all frames share; None where there is none."""
    value = header.get(name)
    shared = header.get("SharedFunctionalGroupsSequence")
    if value is None and shared:
        inner = [group for sequence in ("PixelValueTransformationSequence", "FrameVOILUTSequence")
                 for group in shared[0].get(sequence, [])]  # fmt: skip
        value = next((group.get(name) for group in inner if group.get(name) is not None), None)
    if value is None or value == "":
        return None
    return float(value if isinstance(value, int | float | str) else value[0])


def _load_dicom(data: bytes, rescaled: tuple[float, float] | None, pages: Sequence[int], least: int) -> Array:
    pixels = _library("pydicom.pixels", "DICOM")
    frames = []
    for page in pages:
        array = np.asarray(pixels.pixel_array(io.BytesIO(data), index=page))
        array = array[:, :, None] if array.ndim == 2 else array
        frames.append(array if rescaled is None else array * np.float32(rescaled[0]) + np.float32(rescaled[1]))
    return frames[0] if len(frames) == 1 else np.concatenate(frames, 2)


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(_GZIP):
        return data
    unpacked = zlib.decompressobj(wbits=31).decompress(data, RAW + 1)
    if len(unpacked) > RAW:
        raise BadImageError(f"a volume of more than {RAW >> 20} MiB once decompressed: cut it into several")
    return unpacked


def _image(data: bytes) -> Any:
    nibabel = _library("nibabel", "NIfTI")
    kind = nibabel.Nifti2Image if data[4:7] == b"n+2" else nibabel.Nifti1Image
    return kind.from_bytes(data)


def _nifti(data: bytes) -> Stored:
    if not is_one(data):
        raise BadImageError("packed with gzip, and no NIfTI inside")
    image = _image(data)
    if len(image.shape) < 2 or image.get_data_dtype().kind not in "iuf":
        raise BadImageError(f"a NIfTI file of shape {image.shape} and type {image.get_data_dtype()}, which are no pictures")
    shape = (*image.shape, 1)[:3]
    along = _axes(image)
    height, width, depth = (shape[axis] for axis in along)
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    kind = str(image.get_data_dtype().newbyteorder("=")) if (slope, intercept) == (1, 0) else "float32"
    return Stored(
        height, width, 1, kind, partial(_load_nifti, data, kind), lambda least: 16 * height * width,
        pages=depth * math.prod(image.shape[3:]), noun="slice",
    )  # fmt: skip


def _axes(image: Any) -> list[int]:
    """Which axes of the volume lead to the front, to the side, and up, for slices from above."""
    nibabel = _library("nibabel", "NIfTI")
    order = nibabel.io_orientation(image.affine)[:, 0].tolist()
    return [order.index(1), order.index(0), order.index(2)] if sorted(order) == [0, 1, 2] else [1, 0, 2]


def _load_nifti(data: bytes, kind: str, pages: Sequence[int], least: int) -> Array:
    """Slices from above: the front at the top, the side on which the world's first coordinate grows at the right."""
    nibabel = _library("nibabel", "NIfTI")
    image = _image(data)
    flips = nibabel.io_orientation(image.affine)[:, 1]
    front, side, up = _axes(image)
    rest = image.shape[3:]
    depth = (*image.shape, 1)[:3][up]
    found = []
    for page in pages:
        place: list[Any] = [slice(None)] * 3
        place[up] = page % depth
        later = np.unravel_index(page // depth, rest) if rest else ()
        plane = np.asarray(image.dataobj[(*place[: len(image.shape)], *map(int, later))]).astype(kind, copy=False)
        plane = plane.T if front > side else plane
        plane = plane[::-1] if flips[front] > 0 else plane
        found.append((plane[:, ::-1] if flips[side] < 0 else plane)[:, :, None])
    return found[0] if len(found) == 1 else np.concatenate(found, 2)
