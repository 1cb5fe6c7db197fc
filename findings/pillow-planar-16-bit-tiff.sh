#!/usr/bin/env bash
# Pillow 13.0.0 takes the bytes of a planar 16-bit RGB TIFF for pixels, and gives 16-bit "min is white" as a negative.
#
# Seen: of an uncompressed file with PlanarConfiguration 2 and 16 bits a sample, `Image.open` makes mode RGB in which the low and the
# high byte of each value stand beside each other, and the right half of the picture is missing. A file with PhotometricInterpretation 0 and
# 16 bits comes as it is stored, white as 0. Neither raises, nor warns. The same file of 8 bits is right.
# A good engineer guesses that a picture that opens is the picture that was written, or that an unsupported form is refused.
# What it means here: TIFF is read by tifffile, and Pillow converts colours only (`unlabeled/data/kinds/tiff.py`).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 tifffile==2026.3.3 numpy
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import io

import numpy as np
import tifffile
from PIL import Image


def opened(array, **how):
    """What Pillow makes of a file, and what tifffile does."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, **how)
    return np.asarray(Image.open(file)), tifffile.imread(io.BytesIO(file.getvalue()))


planes = np.arange(3 * 4 * 8, dtype=np.uint16).reshape(3, 4, 8) + 0x1200
theirs, written = opened(planes, photometric="rgb", planarconfig="separate")
print("planar:", theirs.dtype, theirs[0, :4, 0].tolist(), "for", written[0, 0, :4].tolist())
assert (written == planes).all()
assert theirs[0, :4, 0].tolist() == [0x00, 0x12, 0x01, 0x12], "it does otherwise now: look at tiff.py again"

white = np.zeros((2, 2), np.uint16)
theirs, _ = opened(white, photometric="miniswhite")
print("min is white, all white:", theirs.tolist())
assert theirs.max() == 0, "it does otherwise now: look at tiff.py again"
PYTHON
