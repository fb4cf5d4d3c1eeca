"""Proves what every page of cavsync keeps: contents that lead to its headings, images with a description, players with a
poster, nothing loaded from elsewhere, and colours that can be read in both schemes."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pages import Page, sound_page

from cavsync.train.reporting import page as page_module
from cavsync.train.reporting.charts import bar_chart, interval_chart
from cavsync.train.reporting.estimate import Estimate
from cavsync.train.reporting.images import jpeg, png
from cavsync.train.reporting.page import (
    Answer,
    CaptionedImage,
    Chart,
    ClipPreview,
    Contents,
    ImageSet,
    PlayableVideo,
    RankedQuery,
    Report,
    Score,
    Section,
    Table,
    write_report,
)

STYLE = (Path(page_module.__file__).parent / "templates" / "style.css.j2").read_text()
TEXTS, GROUNDS, LINES = (
    ("ink", "soft", "link", "good", "bad"),
    ("paper", "card"),
    ("one", "two", "three", "four"),
)
# WCAG 2.2, level AA: 1.4.3 of text, 1.4.11 of graphics.
LEAST_OF_TEXT, LEAST_OF_GRAPHICS = 4.5, 3.0


def image(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), "#336699")


def whole_report() -> Report:
    """One of everything that a section can hold, and a heading that comes twice."""
    frames = ClipPreview("a <b>", frames=[jpeg(image(8, 8))] * 4)
    audio = ClipPreview("b", mel=jpeg(image(32, 7)), mp3=b"mp3", from_mel=True)
    estimate = Estimate(40.0, 35.0, 45.0, 0.5)
    sections = [
        Section(
            "Maps & more", "text", image_sets=[ImageSet([CaptionedImage(jpeg(image(9, 9)), "map")], "row 1")]
        ),
        Section(
            "Maps & more",
            "text",
            images=[CaptionedImage(png(image(990, 9)), ""), CaptionedImage(png(image(300, 9)), "c")],
        ),
        Section("→", "text", films=[PlayableVideo("overlay.mp4", "film", jpeg(image(9, 9)))]),
        Section("Queries", "text", queries=[RankedQuery(audio, 2, [Answer(frames, 0.5, 1, right=False)])]),
        Section(
            "Tables", "text", tables=[Table(["a", "b"], [["x", "1"]], groups=[("", 1), ("g", 1)], faded=[0])]
        ),
        Section("Charts", "text", charts=[Chart(bar_chart(["1"], {"a": [2]}, "x", "y"), "bars")]),
        Section("Dots", "text", charts=[Chart(interval_chart({"R@1": [estimate]}, ["a"]), "dots")]),
    ]
    return Report("Whole", "lead", [Score("R@1", estimate, "note")], sections, [("weights", "model")])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(whole_report(), path)
    return sound_page(path)


def test_the_contents_lead_to_every_heading_and_headings_of_one_name_are_apart(page: Page) -> None:
    anchors = {one.attributes["id"]: one.text for one in page.all("h2")}
    assert anchors == {
        "scores": "Scores",
        "maps-more": "Maps & more",
        "maps-more-2": "Maps & more",
        "section": "→",
        "queries": "Queries",
        "tables": "Tables",
        "charts": "Charts",
        "dots": "Dots",
        "what-was-run": "What was run",
    }


def test_an_anchor_does_not_meet_the_number_of_another_heading() -> None:
    contents = Contents()
    assert [contents.add(title) for title in ("Part 2", "Part", "Part!", "Part")] == [
        "part-2",
        "part",
        "part-3",
        "part-4",
    ]


def test_images_keep_their_size_and_wide_plots_take_a_row(page: Page) -> None:
    sizes = {
        (one.attributes["width"], one.attributes["height"]): one.inside
        for one in page.all("img")
        if "width" in one.attributes
    }
    assert {*sizes} == {("9", "9"), ("990", "9"), ("300", "9")}
    assert "across" in sizes["990", "9"][-2].classes
    assert "across" not in sizes["300", "9"][-2].classes
    assert all(
        inside[-1].classes == {"scroll", "sheet"} for size, inside in sizes.items() if size != ("9", "9")
    )
    assert "grid" in sizes["9", "9"][-4].classes


def test_what_is_played_has_a_poster_that_is_printed_instead(page: Page) -> None:
    (video,), (audio,) = page.all("video"), page.all("audio")
    printed = [one for one in page.all("img") if "printed" in one.classes]
    assert [one.attributes["src"] for one in printed] == [video.attributes["poster"]]
    assert audio.attributes["src"] == "data:audio/mpeg;base64,bXAz"
    assert "player" in audio.inside[-1].classes


def test_audio_without_an_image_of_it_is_an_error() -> None:
    with pytest.raises(AssertionError, match="the audio of b has no log-mel"):
        ClipPreview("b", mp3=b"mp3")


def test_names_from_data_are_text(page: Page) -> None:
    assert any(one.text.startswith("1. 0.500a <b>") for one in page.all("p"))


def test_players_and_contents_are_not_printed_and_paper_stays_white() -> None:
    printed = STYLE[STYLE.index("@media print") :]
    assert "nav, .skip, audio, video { display: none !important; }" in printed
    assert re.search(r"tr, figure, [^{]*\{ break-inside: avoid; \}", printed)
    assert "attr(href)" in printed
    assert re.findall(r"@media ([^{]*)\(prefers-color-scheme: dark\)", STYLE) == ["screen and "]


def colours(scheme: str) -> dict[str, str]:
    """Name -> "#rrggbb" of the first (light) or second (dark) block of variables."""
    light, dark = re.findall(r":root \{([^}]*)\}", STYLE)
    return dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", dark if scheme == "dark" else light))


def luminance(colour: str) -> float:
    """Relative luminance in [0, 1], as WCAG defines it."""
    parts = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_measured_as_defined() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    # The grey that is known as the lightest with 4.5 on white.
    assert contrast("#ffffff", "#767676") == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_lines_stand_out_from_their_ground(scheme: str) -> None:
    named = colours(scheme)
    assert {*TEXTS, *GROUNDS, *LINES, "line"} == {*named}
    for ground in GROUNDS:
        for text in TEXTS:
            assert contrast(named[text], named[ground]) >= LEAST_OF_TEXT, (text, ground)
        for line in LINES:
            assert contrast(named[line], named[ground]) >= LEAST_OF_GRAPHICS, (line, ground)


def test_colours_are_written_in_both_schemes_alone() -> None:
    """A colour outside the variables would be the same on light and on dark ground."""
    rules = re.sub(r":root \{[^}]*\}", "", STYLE)
    fixed = {*re.findall(r"#[0-9a-f]{3,8}\b|\b(?:white|black)\b", re.sub(r"/\*.*?\*/", "", rules))}
    # Plots are on white, players on black, and the line over a log-mel is white with a dark edge.
    assert fixed == {"#ffffff", "#10151b", "white", "#1f2933"}
