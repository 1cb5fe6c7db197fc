"""What results look like in a notebook."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from rich.table import Table
from rich.text import Text

from unlabeled.notebook import Picture, html


def test_sentences_and_tables_are_escaped() -> None:
    table = Table("name", title="a < b")
    table.add_column("figure", justify="right")
    table.add_row(Text("<i>"), Text("87.5%", "bold"))
    found = html(["5 > 3", table])
    assert found.startswith("<p>5 &gt; 3</p>\n<table><caption>a &lt; b</caption>")
    assert '<td style="text-align: left">&lt;i&gt;</td><td style="text-align: right"><b>87.5%</b></td>' in found


def test_a_picture_is_shown_and_is_a_path(tmp_path: Path) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "x.png")
    picture = Picture(tmp_path / "x.png")
    assert Path(picture) == tmp_path / "x.png"
    assert picture._repr_png_() == (tmp_path / "x.png").read_bytes()
    assert html([], picture.path).startswith('<img src="data:image/png;base64,iVBOR')
