"""DICOM and NIfTI: values, windows, slices of volumes, patients."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from command import ONE, mistake, ok
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from unlabeled.data import open_data
from unlabeled.data.kinds.pixels import open_image, to_pixels
from unlabeled.data.kinds.stored import Stored
from unlabeled.errors import UserError
from unlabeled.recipe import Roles
from unlabeled.registry import Choice

from .pictures import write

RNG = np.random.default_rng(0)


def dicom(array: np.ndarray, **header: Any) -> bytes:
    """A file of 16-bit values (H, W), or (n, H, W) frames."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.Rows, made.Columns = array.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, int(array.dtype.kind == "i")
    if array.ndim == 3:
        made.NumberOfFrames = len(array)
    for name, value in header.items():
        setattr(made, name, value)
    made.PixelData = array.tobytes()
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def test_values_are_rescaled() -> None:
    raw = open_image(dicom(np.array([[0, 1000], [2000, 3000]], np.uint16), RescaleSlope=2, RescaleIntercept=-1024))
    assert isinstance(raw, Stored)
    assert raw.values()[:, :, 0].tolist() == [[-1024, 976], [2976, 4976]]


def test_a_window_is_black_to_white() -> None:
    array = np.array([[-2000, 40 - 200, 40, 40 + 200]], np.int16)
    header = {"RescaleSlope": 1, "RescaleIntercept": 0, "WindowCenter": 40, "WindowWidth": 400}
    pixels = to_pixels(open_image(dicom(np.repeat(array, 4, 0), **header)), 1, 4, values="window")[0, 0].tolist()
    assert pixels[:2] == [0, 0]
    assert abs(pixels[2] - 128) <= 1
    assert pixels[3] == 255


def test_monochrome1_is_inverted() -> None:
    array = np.array([[0, 65535], [0, 65535]], np.uint16)
    pixels = to_pixels(open_image(dicom(array, PhotometricInterpretation="MONOCHROME1")), 1, 2)
    assert pixels[0].tolist() == [[255, 0], [255, 0]]


def test_files_of_a_patient_are_on_one_side(tmp_path: Path) -> None:
    for patient in range(10):
        for number in range(4):
            array = RNG.integers(0, 4096, (16, 16)).astype(np.uint16)
            (tmp_path / f"{patient}-{number}.dcm").write_bytes(dicom(array, PatientID=f"p{patient}"))
    data = open_data(tmp_path)
    assert data.test is not None
    assert data.group == "patient"
    assert not set(data.train.columns["patient"]) & set(data.test.columns["patient"])
    assert "is 0 to 4,095" in " ".join(data.remarks())


def of_patients(folder: Path, patients: int, files: int) -> Path:
    folder.mkdir(exist_ok=True)
    for patient in range(patients):
        for number in range(files):
            array = RNG.integers(0, 4096, (16, 16)).astype(np.uint16)
            (folder / f"{patient}-{number}.dcm").write_bytes(dicom(array, PatientID=f"p{patient}"))
    return folder


@pytest.mark.parametrize("patients", range(2, 6))
def test_of_few_patients_one_is_held_out_whatever_the_seed(patients: int, tmp_path: Path) -> None:
    of_patients(tmp_path, patients, 2)
    for seed in range(6):
        data = open_data(tmp_path, seed=seed)
        assert data.test is not None
        assert {*data.test.columns["patient"]}.isdisjoint(data.train.columns["patient"])
        assert bool(data.instead) == (f"seed {seed} leaves all values of 'patient' on one side" in " ".join(data.remarks()))


def test_patients_in_both_splits_are_told(tmp_path: Path) -> None:
    train, test = of_patients(tmp_path / "train", 3, 2), of_patients(tmp_path / "test", 2, 1)
    data = open_data(f"train={train},test={test}")
    assert data.group == "patient"
    assert "Groups are torn: 2 of the 2 values of 'patient' in the test split" in " ".join(data.remarks())


def test_what_parts_say_of_themselves_is_no_column_of_the_data(tmp_path: Path) -> None:
    """Neither named as not used, nor offered as labels; and a file of one slice does not hold slices."""
    of_patients(tmp_path, 16, 2)
    assert set(open_data(tmp_path).train.columns) == {"source", "slice", "patient"}
    said = " ".join(open_data(tmp_path).remarks())
    for word in ("Not used", "--label", "hold", "source"):
        assert word not in said
    shown = ok("inspect", tmp_path, "--out", tmp_path / "seen")
    assert "--group" not in shown
    ok("pretrain", tmp_path, *ONE, "--out", tmp_path / "run")
    assert "name a column" not in mistake("evaluate", tmp_path / "run", "--protocol", "linear")


def test_windows_are_used_unless_a_range_is_given(tmp_path: Path) -> None:
    for i in range(8):
        array = RNG.integers(-1000, 1000, (16, 16)).astype(np.int16)
        (tmp_path / f"{i}.dcm").write_bytes(dicom(array, WindowCenter=0, WindowWidth=100))
    data = open_data(tmp_path, seed=None)
    assert "8 of the 8 files looked at declare a window" in " ".join(data.remarks())
    assert data.train.kind.resolved(data.train.form).options["range"] == "window"
    assert ((data.train.seen([0]) > 0) & (data.train.seen([0]) < 255)).float().mean() < 0.2
    given = open_data(tmp_path, kind=Choice("", {"range": "-1000,1000"}), seed=None).train.seen([0])
    assert ((given > 0) & (given < 255)).float().mean() > 0.9


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_slices_of_a_volume_are_images(tmp_path: Path, suffix: str) -> None:
    volumes = RNG.integers(0, 1024, (6, 12, 10, 5)).astype(np.int16)
    for i, volume in enumerate(volumes):
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / f"sub-{i:02d}_T1w{suffix}")
    source = open_data(tmp_path, seed=None).train
    assert len(source) == 30
    assert source.native == (10, 12)
    assert source.path(7).endswith(f"sub-01_T1w{suffix}[slice 2]")
    assert source.columns["patient"].tolist()[4:6] == ["sub-00", "sub-01"]
    above = volumes[1, :, :, 2].T[::-1][:, 1:11]  # its central square, the front at the top
    assert np.abs(source.seen([7])[0, 0].numpy() - above.astype(float) * 255 / 1023).max() <= 0.5


def test_a_volume_lies_as_its_affine_says() -> None:
    volume = RNG.integers(0, 256, (4, 5, 6)).astype(np.uint8)
    turned = nibabel.Nifti1Image(volume, np.eye(4)).as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
    for image in (nibabel.Nifti1Image(volume, np.eye(4)), turned):
        raw = open_image(image.to_bytes())
        assert isinstance(raw, Stored)
        assert (raw.height, raw.width, raw.pages) == (5, 4, 6)
        assert np.array_equal(raw.page(2).values()[:, :, 0], volume[:, :, 2].T[::-1])


def test_frames_of_a_dicom_file_are_slices() -> None:
    array = RNG.integers(0, 4096, (3, 8, 8)).astype(np.uint16)
    raw = open_image(dicom(array))
    assert isinstance(raw, Stored)
    assert raw.pages == 3
    assert np.array_equal(raw.page(1).values()[:, :, 0], array[1])
    assert np.array_equal(raw.stacked().values(), array.transpose(1, 2, 0))


def test_pages_of_other_files_beside_them_are_not_samples(tmp_path: Path) -> None:
    pages = RNG.integers(0, 4096, (3, 16, 16)).astype(np.uint16)
    for i in range(4):
        (tmp_path / f"{i}.dcm").write_bytes(dicom(pages, PatientID=f"p{i}"))
        tifffile.imwrite(tmp_path / f"{i}.tif", pages, photometric="minisblack")
    assert len(open_data(tmp_path, seed=None).train) == 4 * 3 + 4
    assert len(open_data(tmp_path, kind=Choice("", {"pages": "all"}), seed=None).train) == 4 * 3 + 4 * 3


def test_without_the_extra_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.dcm").write_bytes(dicom(np.zeros((8, 8), np.uint16)))

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("pydicom"):
            raise ImportError(name)
        return real(name, *rest)

    from unlabeled.data.kinds import medical

    real = medical.importlib.import_module
    monkeypatch.setattr(medical.importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"DICOM is read by pydicom, .*: pip install 'unlabeled\[medical\]'"):
        open_data(tmp_path)


def test_files_without_a_suffix_are_known_by_their_first_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        write(tmp_path / f"{i}.png", seed=i)
    (tmp_path / "IM0001").write_bytes(dicom(np.zeros((2, 8, 8), np.uint16)))
    (tmp_path / "1.2.840.77").write_bytes(dicom(np.zeros((8, 8), np.uint16)))
    (tmp_path / "notes").write_bytes(b"notes" * 40)
    data = open_data(tmp_path, seed=None)
    assert len(data.train) == 4 + 2 + 1
    told = " ".join(data.remarks())
    assert "without a suffix, 2 files begin as DICOM, and they are read." in told
    assert "1 other file is not read: 1 without a suffix." in told
    for i in range(4, 60):
        write(tmp_path / f"{i}.png", seed=i)
    data = open_data(tmp_path, seed=None)
    assert len(data.train) == 60
    told = " ".join(data.remarks())
    assert (
        "2 files begin as DICOM, and they are left out beside the others: give a folder of their own to read them." in told
    )
    for i in range(4, 60):
        (tmp_path / f"{i}.png").unlink()
    monkeypatch.setattr("unlabeled.data.kinds.medical.is_readable", lambda: False)
    data = open_data(tmp_path, seed=None)
    assert len(data.train) == 4
    assert "2 files begin as DICOM, and they are read once there is pydicom: pip" in " ".join(data.remarks())
    for i in range(4):
        (tmp_path / f"{i}.png").unlink()
    with pytest.raises(UserError, match="2 files begin as DICOM, and they are read once there is pydicom"):
        open_data(tmp_path)


def test_what_is_no_volume(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(b"hello" * 200))
    with pytest.raises(UserError, match="no NIfTI inside"):
        open_data(tmp_path)


def test_files_that_are_not_read_are_counted(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / f"{i}.png", seed=i)
    for i in range(6):
        (tmp_path / f"IMG_{i}.heic").write_bytes(b"\0")
        (tmp_path / f"scan{i}").write_bytes(b"\0")
    (tmp_path / ".hidden").write_bytes(b"")
    assert "12 other files are not read: 6 .heic, 6 without a suffix." in open_data(tmp_path, seed=None).remarks()


@pytest.mark.parametrize("said", [True, False])
def test_folders_of_patients_are_groups_and_no_classes(said: bool, tmp_path: Path) -> None:
    for patient in range(6):
        (tmp_path / f"P{patient:03d}").mkdir()
        for number in range(4):
            array = RNG.integers(0, 4096, (16, 16)).astype(np.uint16)
            about = {"PatientID": f"x{patient}"} if said else {}
            (tmp_path / f"P{patient:03d}" / f"{number}.dcm").write_bytes(dicom(array, **about))
    data = open_data(tmp_path, seed=2)
    assert data.train.labels is None and data.group == "patient" and data.test is not None
    assert not set(data.train.columns["patient"]) & set(data.test.columns["patient"])
    assert "6 folders hold the files of a patient each, and are no classes" in " ".join(data.remarks())
    assert len(open_data(tmp_path, roles=Roles(label="folder"), seed=None).train.classes) == 6


def test_volumes_in_folders_of_patients_and_classes_that_hold_patients(tmp_path: Path) -> None:
    for patient in range(6):
        for below in (f"a/case {patient}", f"b/{'ill' if patient % 2 else 'well'}"):
            (tmp_path / below).mkdir(parents=True, exist_ok=True)
            for name in ("T1", "T2"):
                volume = RNG.integers(0, 1024, (8, 8, 3)).astype(np.int16)
                nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / below / f"{patient}-{name}.nii")
    data = open_data(tmp_path / "a", seed=None)
    assert data.train.labels is None and data.group == "patient"
    assert set(data.train.columns["patient"]) == {f"case {patient}" for patient in range(6)}
    assert open_data(tmp_path / "b", seed=None).train.classes == ("ill", "well")


@pytest.mark.parametrize("pictures", [20, 2])
def test_strays_among_pictures_or_among_slices_are_counted_and_not_read(pictures: int, tmp_path: Path) -> None:
    array = RNG.integers(0, 4096, (16, 16)).astype(np.uint16)
    for number in range(22 - pictures):
        (tmp_path / f"{number}.dcm").write_bytes(dicom(array + number))
    for number in range(pictures):
        Image.fromarray(RNG.integers(0, 256, (16, 16), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    data = open_data(tmp_path, seed=None)
    assert len(data.train) == 20
    assert ("slice" in data.train.columns) == (pictures == 2)
    assert f"2 other files are not read: 2 {'.dcm' if pictures == 20 else '.png'}." in data.remarks()
