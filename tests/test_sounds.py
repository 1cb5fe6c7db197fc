"""Every verb on recordings, and bad ones among them."""

from __future__ import annotations

import io
import json
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command import mistake, ok
from PIL import Image

import unlabeled
from unlabeled import registry
from unlabeled.batch import DataShape, Progress
from unlabeled.data import open_data
from unlabeled.data.kinds.kind import build
from unlabeled.registry import Choice
from unlabeled.run import Run

RATE = 4000
CPC = (
    "--method", "cpc", "--method.steps", "3", "--encoder.width", "8", "--encoder.context", "8", "--views.samples", "800",
    "--batch-size", "8", "--epochs", "1", "--accelerator", "cpu",
)  # fmt: skip


def tone(pitch: float, seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A tone under a little noise: float (n,) in [-1, 1]."""
    at = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(at))
    return 0.5 * np.sin(2 * np.pi * pitch * at) + 0.02 * noise


def recordings(path: Path, n: int = 48, suffix: str = "wav") -> Path:
    """Low and high tones of 0.2 to 0.4 s of three people, named `{class}_{speaker}_{number}`."""
    path.mkdir(parents=True)
    for i in range(n):
        name = f"{'low' if i % 2 else 'high'}_{'abc'[i % 3]}_{i}.{suffix}"
        soundfile.write(path / name, tone(300 if i % 2 else 900, 0.2 + 0.004 * i, i), RATE)
    return path


NAMES = ("--columns", "{pitch}_{speaker}_{number}", "--label", "pitch")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sounds")
    recordings(path / "data")
    said = ok("pretrain", path / "data", *NAMES, *CPC, "--out", path / "run")
    assert "of 48 recordings are held out" in said
    assert "recordings of 0.296 s at 4,000 Hz" in said or "at 4,000 Hz" in said
    return path


def test_a_run_of_sounds_is_judged_beside_log_mel_statistics(made: Path) -> None:
    said = ok("evaluate", made / "run", "--protocol", "knn", "--accelerator", "cpu")
    for words in ("log-mel statistics", "untrained encoder", "pretrained encoder", "recordings"):
        assert words in said
    judged = unlabeled.evaluate(made / "run", label="speaker", protocol=["knn"], accelerator="cpu", against=["raw"])
    assert judged.score("log-mel", "100%", "knn").mean("top1") >= 0
    refused = mistake("evaluate", made / "run", "--protocol", "attention", "--against", "none", "--out", made / "x.json")
    assert "is for data of kind image" in refused


def test_features_and_neighbours(made: Path) -> None:
    ok("embed", made / "run", made / "data", "--out", made / "z.npz", "--accelerator", "cpu")
    found = np.load(made / "z.npz")
    assert found["embedding"].shape == (48, 16)
    query = next((made / "data").glob("low_*"))
    said = ok(
        "search",
        made / "run",
        query,
        "--data",
        made / "data",
        "--n",
        "5",
        "--out",
        made / "near.png",
        "--accelerator",
        "cpu",
    )
    assert query.name in said
    with Image.open(made / "near.png") as picture:
        assert picture.width > 300
    assert "not sound" in mistake("search", made / "run", made / "z.npz", "--data", made / "data", "--out", made / "no.png")


def test_what_a_method_sees_is_a_picture_of_spectrogram_and_wave(made: Path) -> None:
    ok("views", made / "data", "--policy.samples", "400", "--images", "3", "--out", made / "views.png")
    with Image.open(made / "views.png") as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 50, "no spectrogram"
    assert "not for recordings" in mistake("views", made / "data", "--policy", "simclr", "--out", made / "no.png")


def test_bad_recordings_are_told_by_every_verb_that_leaves_them_out(made: Path, tmp_path: Path) -> None:
    recordings(tmp_path / "data")
    bad = sorted((tmp_path / "data").rglob("*.wav"))[0]
    bad.write_bytes(b"no sound")
    told = f"left out 1 bad recording: {bad}: not sound"
    assert told in ok("embed", made / "run", tmp_path / "data", "--out", tmp_path / "z.npz", "--accelerator", "cpu")
    words = ("--protocol", "knn", "--against", "none", "--accelerator", "cpu", "--out", tmp_path / "e.json")
    assert told in ok("evaluate", made / "run", "--data", tmp_path / "data", *words)
    (line,) = json.loads((tmp_path / "e.json").read_text())["skipped"]
    assert told in line


def test_the_lengths_of_recordings_of_several_rates(tmp_path: Path) -> None:
    """The longest in seconds is not the one with the most samples."""
    for i, (rate, seconds) in enumerate([(4000, 0.5), (16000, 0.25), (8000, 0.375), (8000, 0.375), (8000, 0.375)] * 2):
        noise = np.random.default_rng(i).uniform(-0.5, 0.5, int(rate * seconds))
        soundfile.write(tmp_path / f"{i}.wav", noise, rate)
    said = ok("inspect", tmp_path, "--minutes", "1", "--out", tmp_path / "seen", "--accelerator", "cpu")
    assert "0.375 s (0.25 s to 0.5 s)" in said
    found = json.loads((tmp_path / "seen" / "inspect.json").read_text())["splits"]["all"]["sizes"]
    assert [found[k][0] / found[k][1] for k in ("smallest", "median", "largest")] == [0.25, 0.375, 0.5]


def test_inspect_and_report(made: Path) -> None:
    said = ok("inspect", made / "data", *NAMES, "--minutes", "1", "--out", made / "seen", "--accelerator", "cpu")
    assert "recordings/s were measured" in " ".join(said.split())
    assert "images/s" not in said
    assert "recordings" in said
    assert "--method cpc" in said
    assert "speaker" in said
    ok("report", made / "run", "--out", made / "page.html")
    assert "data:image" in (made / "page.html").read_text(encoding="utf-8")


def test_exports(made: Path) -> None:
    ok("export", made / "run", "--format", "safetensors", "--data", made / "data", "--out", made / "e.safetensors")
    encoder = unlabeled.load(made / "e.safetensors")
    x = torch.randint(-999, 999, (2, 1, 900), dtype=torch.int16)
    padded = torch.cat([x, torch.zeros(2, 1, 300, dtype=torch.int16)], 2)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), encoder(padded), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(encoder(x), encoder(x.float() / 32768))
    for form in ("timm", "torchvision"):
        assert "--format safetensors or onnx" in mistake("export", made / "run", "--format", form)
    with pytest.raises(unlabeled.UserError, match="recordings of shape"):
        encoder(torch.zeros(2, 3, 8, 8))


def test_a_graph_takes_recordings_of_any_number_and_length(made: Path) -> None:
    """Its recurrence is ONNX's own, and silence is what it is here: the exporter of torch 2.14 drops an addition of 1e-8."""
    import onnxruntime

    ok("export", made / "run", "--format", "onnx", "--data", made / "data", "--out", made / "e.onnx")
    session = onnxruntime.InferenceSession(made / "e.onnx", providers=["CPUExecutionProvider"])
    encoder = unlabeled.load(made / "run")
    for n, length in ((1, 1), (3, 400), (2, 3001)):
        x = torch.rand(n, 1, length) - 0.5
        x[0] = 0
        with torch.no_grad():
            h = encoder(x).numpy()
        np.testing.assert_allclose(session.run(["features"], {"recordings": x.numpy()})[0], h, rtol=1e-4, atol=5e-5)


def test_methods_views_and_encoders_of_other_data_are_refused(made: Path, tmp_path: Path) -> None:
    words = ("pretrain", made / "data", "--accelerator", "cpu", "--batch-size", "8", "--out", tmp_path / "r")
    assert "give --method cpc" in mistake(*words)
    assert "'resnet34' is no network for recordings" in mistake(*words, "--method", "cpc", "--encoder", "resnet34")
    assert "give --views window" in mistake(*words, "--method", "cpc", "--views", "simclr")
    assert "has no option 'size'" in mistake(*words, "--method", "cpc", "--image-size", "8")
    assert not (tmp_path / "r").exists()


def test_untrained_and_supervised(made: Path, tmp_path: Path) -> None:
    words = (
        made / "data", *NAMES, "--encoder.width", "8", "--encoder.context", "8", "--batch-size", "8", "--accelerator", "cpu",
        "--epochs", "1",
    )  # fmt: skip
    ok("pretrain", *words, "--method", "random", "--out", tmp_path / "random")
    ok("pretrain", *words, "--method", "supervised", "--out", tmp_path / "told")
    assert Run(tmp_path / "told").recipe.views.name == "window"
    found = unlabeled.predict(tmp_path / "told", made / "data", out=tmp_path / "p.csv", accelerator="cpu")
    assert set(found.counts) <= {"low", "high"}
    assert sum(found.counts.values()) == 48


def test_a_table_and_a_sweep(made: Path, tmp_path: Path) -> None:
    words = (made / "data", *NAMES, "--encoder.width", "8", "--encoder.context", "8", "--batch-size", "8", "--epochs", "1")
    words = (*words, "--accelerator", "cpu")
    ok("compare", *words, "--method", "cpc:steps=3", "--out", tmp_path / "table")
    rows = {row["name"]: row for row in json.loads((tmp_path / "table" / "table.json").read_text())["rows"]}
    assert not [row["failed"] for row in rows.values() if "failed" in row]
    assert {row["recipe"]["encoder"]["name"] for row in rows.values()} == {"cpc"}
    recipe = tmp_path / "cpc.yaml"
    recipe.write_text(
        "method: {name: cpc}\nencoder: {name: cpc, width: 8, context: 8}\nbatch_size: 8\nepochs: 1\nlabel: pitch\n"
        f"columns: '{NAMES[1]}'\ndata: {made / 'data'}\nviews: {{name: window, samples: 800}}\n"
    )
    said = ok("sweep", recipe, "--grid", "method.steps=2", "--accelerator", "cpu", "--out", tmp_path / "sweep")
    assert "failed" not in said


def test_a_run_is_the_same_twice_and_resumes(made: Path, tmp_path: Path) -> None:
    again = ok("pretrain", made / "data", *NAMES, *CPC, "--out", tmp_path / "b")
    assert "written" in again
    one, two = (Run.open(path).encoder().state_dict() for path in (made / "run", tmp_path / "b"))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_bad_recordings_are_skipped_and_listed(tmp_path: Path) -> None:
    recordings(tmp_path / "data", n=90)
    bad = tmp_path / "data"
    (bad / "empty_a_0.wav").write_bytes(b"")
    (bad / "text_a_0.wav").write_text("no sound at all")
    whole = io.BytesIO()
    soundfile.write(whole, tone(300, 1.0), RATE, format="WAV")
    (bad / "cut_a_0.wav").write_bytes(whole.getvalue()[:3000])
    soundfile.write(bad / "many_a_0.wav", np.zeros((100, 96)), RATE)
    soundfile.write(bad / "nan_a_0.wav", np.full(800, np.nan), RATE, subtype="FLOAT")
    with wave.open(str(bad / "none_a_0.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
    said = ok("pretrain", bad, *CPC, "--out", tmp_path / "run")
    assert "skipped" in said
    listed = (tmp_path / "run" / "skipped.csv").read_text()
    for words in ("0 bytes", "not sound", "cut off", "96 channels", "NaN", "length 0"):
        assert words in listed


def test_twenty_hours_are_not_read(tmp_path: Path) -> None:
    """A header that says so, and its (sparse) file."""
    recordings(tmp_path / "data", n=20)
    frames = 20 * 3600 * 1000
    with wave.open(str(tmp_path / "data" / "long.wav"), "wb") as file:
        file.setparams((1, 1, 1000, 0, "NONE", ""))
        file.writeframes(b"\x80")
    data = bytearray((tmp_path / "data" / "long.wav").read_bytes())
    data[4:8] = (36 + frames).to_bytes(4, "little")
    data[40:44] = frames.to_bytes(4, "little")
    with (tmp_path / "data" / "long.wav").open("wb") as file:
        file.write(data[:44])
        file.truncate(44 + frames)
    source = open_data(tmp_path / "data", seed=None).train
    source.fetch(range(len(source)))
    (skipped,) = source.skipped
    assert "20.0 hours long" in skipped.reason


def test_more_than_a_tenth_bad_stops(tmp_path: Path) -> None:
    recordings(tmp_path / "data", n=20)
    for i in range(4):
        (tmp_path / "data" / f"bad_{i}.wav").write_bytes(b"RIFFxxxx")
    said = mistake("pretrain", tmp_path / "data", *CPC, "--out", tmp_path / "run")
    assert "recordings looked at are bad, more than a tenth" in said
    assert not (tmp_path / "run").exists()


def test_rates_formats_and_channels_become_one(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    recordings(folder, n=20)
    soundfile.write(folder / "high_x_1.flac", tone(500, 0.3, rate=11025), 11025)
    soundfile.write(folder / "high_x_2.ogg", tone(500, 0.3, rate=44100), 44100)
    both = np.stack([tone(500, 0.3, rate=48000), np.zeros(14400)], 1)
    soundfile.write(folder / "high_x_3.wav", both, 48000, subtype="PCM_24")
    source = open_data(folder, seed=None).train
    assert source.form.rate == RATE
    paths = [source.path(i) for i in range(len(source))]
    for name, scale in (("high_x_1.flac", 1.0), ("high_x_2.ogg", 1.0), ("high_x_3.wav", 0.5)):
        place = next(i for i, path in enumerate(paths) if path.endswith(name))
        fields = source.fetch([place])
        length = int(fields["length"][0])
        assert length == pytest.approx(0.3 * RATE, abs=3)
        x = fields["sound"][0, 0, :length].double().numpy() / 32768
        spectrum = np.abs(np.fft.rfft(x * np.hanning(length))) / (np.hanning(length).sum() / 2)
        peak = int(spectrum.argmax())
        assert peak * RATE / length == pytest.approx(500, abs=4)
        assert spectrum[peak] == pytest.approx(0.5 * scale, rel=0.1)


@pytest.mark.parametrize("frames", [11085, 11086, 44101, 7777])
def test_a_length_that_no_rate_divides_is_one_length_everywhere(frames: int, tmp_path: Path) -> None:
    """44.1 kHz brought to 8 kHz: the kept kind, the views and the encoder must agree on T."""
    (tmp_path / "d").mkdir()
    for i in range(12):
        soundfile.write(tmp_path / "d" / f"{i}.wav", tone(300, frames / 44100, i, 44100)[:frames], 44100)
    source = open_data(tmp_path / "d", kind=Choice("", {"rate": 8000}), seed=None).train
    kept = source.kind.resolved(source.form)
    assert build(kept).view_size(Progress(0, 1, 0)) == source.form.size
    again = open_data(tmp_path / "d", kind=kept, seed=None).train
    assert again.form == source.form
    assert build(kept).encoder(Choice("cpc", {"width": 8}), 1, None).front.size == source.form.size
    views = registry.build("views", Choice("window"), DataShape(12, 1, source.form.size, kind="sound"))
    assert views(source.fetch([0, 1]), torch.Generator())[0][0].shape == (2, 1, source.form.size)


def test_sounds_and_pictures_in_one_folder_need_a_word(tmp_path: Path) -> None:
    recordings(tmp_path / "data", n=20)
    Image.new("RGB", (8, 8)).save(tmp_path / "data" / "cover.png")
    said = mistake("pretrain", tmp_path / "data", *CPC, "--out", tmp_path / "run")
    assert "20 recordings and 1 image" in said
    assert "--kind sound" in said
    said = ok("pretrain", tmp_path / "data", *CPC, "--kind", "sound", "--out", tmp_path / "run")
    assert "16 recordings" in said
    assert "did you mean 'sound'" in mistake(
        "pretrain", tmp_path / "data", *CPC, "--kind", "sounds", "--out", tmp_path / "no"
    )
    assert "has no option 'loud'" in mistake(
        "pretrain", tmp_path / "data", *CPC, "--kind", "sound", "--kind.loud", "1", "--out", tmp_path / "no"
    )
    ok("views", tmp_path / "data", "--kind", "sound", "--images", "2", "--out", tmp_path / "v.png")
    ok("inspect", tmp_path / "data", "--kind", "sound", "--minutes", "1", "--out", tmp_path / "i", "--accelerator", "cpu")


def test_speakers_are_never_heard_before(made: Path) -> None:
    data = open_data(made / "data", seed=3, roles=Run.open(made / "run").recipe.roles.given(group="speaker"))
    assert data.test is not None
    heard, new = (set(split.columns["speaker"]) for split in (data.train, data.test))
    assert not heard & new


def test_recordings_in_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = []
    for i in range(20):
        file = io.BytesIO()
        soundfile.write(file, tone(300, 0.2, i), RATE, format="FLAC")
        cells.append({"bytes": file.getvalue(), "path": f"{i}.flac"})
    pq.write_table(pa.table({"audio": cells, "label": [i % 2 for i in range(20)]}), tmp_path / "x.parquet")
    source = open_data(tmp_path / "x.parquet", seed=None).train
    assert source.kind.name == "sound"
    assert source.fetch([3])["length"].tolist() == [800]
    assert len(source.classes) == 2


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_a_network_of_images_is_refused_and_not_replaced(name: str, made: Path, tmp_path: Path) -> None:
    """Also the one that images have where none is named."""
    said = mistake("pretrain", made / "data", *NAMES, *CPC, "--encoder", name, "--out", tmp_path / "run")
    assert (
        f"{name!r} is no network for recordings, of which there is cpc: leave --encoder out, or give --encoder cpc" in said
    )
    assert not (tmp_path / "run").exists()
    grid = ("--grid", "method.steps=2,3", "--encoder", name, "--out", tmp_path / "grid")
    assert "is no network for recordings" in mistake("sweep", made / "data", *NAMES, *CPC[:2], *grid)
    assert Run(made / "run").recipe.encoder.name == "cpc", "where none is named"
