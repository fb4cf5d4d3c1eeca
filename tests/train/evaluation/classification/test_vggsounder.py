"""Proves VGGSounder's figures on clips that are few enough to work out by hand, and that its list is read or refused."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from cavsync.pipeline.lists.tables import ListError
from cavsync.train.data.labelled.labels import Labels
from cavsync.train.errors import EvaluationError
from cavsync.train.evaluation.classification.vggsounder import (
    SubsetFigures,
    VggSounder,
    VggSounderScores,
    score_vggsounder,
)
from cavsync.train.evaluation.classification.vggsounder_report import (
    label_version,
    vggsounder_record,
    vggsounder_sections,
)

HEADER = "video_id,label,modality,background_music,static_image,voice_over\n"
ROWS = """\
one_000010,bee,AV,False,False,False
one_000010,"bird chirping, tweeting",A,False,False,False
two_000020,bell,V,False,True,False
thr_ee_000030,bee,A,True,False,False
gone_000040,bee,A,False,False,False
"""
KEYS = ["other_00005000", "one_00010000", "two_00020000", "thr_ee_00030000"]
LABELS = Labels(("vgg_0", "vgg_1", "vgg_2"), ("bee", "bell", "bird chirping_ tweeting"))
PROBABILITIES = np.array([[0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [0.2, 0.1, 0.7]])


def write(folder: Path, rows: str = ROWS) -> Path:
    path = folder / "vggsounder.csv"
    path.write_text(HEADER + rows)
    return path


def scored(folder: Path, modality: str = "both") -> VggSounderScores:
    return score_vggsounder(VggSounder.read(write(folder)), KEYS, PROBABILITIES, LABELS, modality)


def subset(scores: VggSounderScores, name: str) -> SubsetFigures:
    return next(one for one in scores.subsets if one.name == name)


def test_a_subset_has_the_labels_of_its_kind_and_the_clips_that_have_one(tmp_path: Path) -> None:
    sizes = {one.name: (one.num_clips, one.num_labels) for one in scored(tmp_path).subsets}
    assert sizes == {
        "av": (1, 1),
        "a": (2, 3),
        "v": (2, 2),
        "a only": (2, 2),
        "v only": (1, 1),
        "all": (3, 4),
    }


def test_hits_and_f1_of_the_likeliest_classes(tmp_path: Path) -> None:
    audible = subset(scored(tmp_path), "a")
    # Clip one: bee is answered and right; clip three: bird is answered, and bee, its label, is second.
    assert audible.answers.hits[1] == 0.5
    # One of two answers is right, one of three labels is found: 2 · 1 / (2 + 3).
    assert audible.answers.f1[1] == pytest.approx(0.4)
    # Three answers name every class: all clips are hit, 3 of 6 answers are right, 3 of 3 labels are found.
    assert audible.answers.hits[3] == 1.0
    assert audible.answers.f1[3] == pytest.approx(2 * 3 / (6 + 3))
    # Of one answer: bee is right once and missed once; bird is wrong once and missed once; bell is in none.
    assert audible.answers.f1_macro[1] == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert audible.chance == pytest.approx(3 / 6)
    assert audible.answers.hits.keys() == {1, 3}  # there are no five classes


def test_precision_is_over_the_classes_of_the_subset(tmp_path: Path) -> None:
    # bee is seen in clip one (.5), which clip two (.6) outranks; bell in clip two (.3, as in clip one: a tie).
    assert subset(scored(tmp_path), "v").mean_average_precision == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_clips_that_the_dataset_lacks_are_named(tmp_path: Path) -> None:
    scores = scored(tmp_path)
    assert (scores.num_listed, scores.num_clips, scores.missing) == (4, 3, ("gone_00040000",))


def test_clips_that_the_dataset_lacks_are_wrong_in_the_figures_that_compare_with_the_packages(
    tmp_path: Path,
) -> None:
    audible = subset(scored(tmp_path), "a")
    assert (audible.num_clips, audible.num_listed) == (2, 3)
    assert audible.answers.hits[1] == pytest.approx(1 / 2)
    assert audible.absent_wrong.hits[1] == pytest.approx(1 / 3)
    # One of two answers is right, one of four labels is found.
    assert audible.absent_wrong.f1[1] == pytest.approx(2 * 1 / (2 + 4))
    visible = subset(scored(tmp_path), "v")  # the clip that is not there has no visible label
    assert visible.absent_wrong == visible.answers


def test_the_labels_are_identified_by_their_size_and_hash(tmp_path: Path) -> None:
    scores = scored(tmp_path)
    digest = hashlib.sha256(write(tmp_path).read_bytes()).hexdigest()
    assert label_version(scores) == f"vggsounder.csv (5 rows, 4 clips, sha256 {digest[:12]})"
    record = vggsounder_record(scores)
    assert record is not None
    assert (record["list_sha256"], record["list_num_rows"], record["list_package_version"]) == (
        digest,
        5,
        None,
    )
    section = vggsounder_sections(scores)[0]
    assert f"sha256 {digest[:12]}" in section.text
    assert [len(table.rows) for table in section.tables] == [6, 6]


@pytest.mark.parametrize(
    ("modality", "published"),
    [("both", {"av"}), ("audio", {"a", "a only"}), ("image", {"v", "v only"})],
)
def test_subsets_that_the_package_scores_are_marked(
    tmp_path: Path, modality: str, published: set[str]
) -> None:
    assert {one.name for one in scored(tmp_path, modality).subsets if one.as_published} == published


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("one_000010,bee,S,,,\n", r"line 2: clip 'one_000010' and modality 'S'; .* one of A, V, AV"),
        ("one,bee,A,,,\n", r"line 2: clip 'one' and modality 'A'; VGGSounder names clips like ID_000030"),
        ("", "lists no clip"),
    ],
)
def test_a_list_that_is_none_is_refused_with_its_line(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(ListError, match=message):
        VggSounder.read(write(tmp_path, rows))


def test_other_clips_and_other_classes_are_refused(tmp_path: Path) -> None:
    listed = VggSounder.read(write(tmp_path))
    with pytest.raises(EvaluationError, match=r"none of the 4 clips of .* is among the 1 scored ones"):
        score_vggsounder(listed, ["x_00000000"], PROBABILITIES[:1], LABELS, "both")
    with pytest.raises(EvaluationError, match="has the class 'bee', which is none of the model's 1"):
        score_vggsounder(listed, KEYS, PROBABILITIES[:, 1:2], Labels(("vgg_1",), ("bell",)), "both")
