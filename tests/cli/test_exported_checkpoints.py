"""Proves that an exported or copied checkpoint scores as its run does, or says what it lacks and how to give it."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.command_line import output_text, run
from support.known_shards import micro_run
from support.labelled_shards import micro_finetuning

from cavsync.train.data.config import DataConfig
from cavsync.train.data.inputs import INPUT_FIELDS
from cavsync.train.embedding.checkpoint import LoadedCheckpoint
from cavsync.train.finetune.trainer import finetune
from cavsync.train.pretrain.trainer import pretrain

# Unlike the published values, and unlike those of the dataset.
STATISTICS: dict[str, Any] = {"mel_mean": -3.5, "mel_std": 2.5, "pad_value": -8.0}


@pytest.fixture(scope="module")
def pretrained_run(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained") / "runs" / "micro"
    pretrain(micro_run(labelled, data=DataConfig(path=str(labelled), **STATISTICS)), folder, device="cpu")
    return folder


@pytest.fixture(scope="module")
def tuned_run(labelled: Path, pretrained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuned classifier of audio alone, which the shapes of its tensors do not tell."""
    folder = tmp_path_factory.mktemp("tuned") / "runs" / "tuned"
    config = micro_finetuning(labelled, pretrained_run, "head.kind=mlp", "head.modality=audio")
    finetune(config, folder, device="cpu")
    return folder


@pytest.fixture
def exported(pretrained_run: Path, tmp_path: Path) -> Path:
    """In a folder of its own, with its record."""
    result = run("checkpoint", "export", pretrained_run, tmp_path / "exported" / "x.pth")
    assert result.exit_code == 0, result.output
    return tmp_path / "exported" / "x.pth"


def retrieved(checkpoint: Path, dataset: Path, out: Path, *options: object) -> dict[str, Any]:
    """The similarities' whole outcome: the results of `eval retrieval`."""
    arguments = ("--data", dataset, "--split", "test", "--out", out, "--json", *options)
    result = run("eval", "retrieval", "--checkpoint", checkpoint, *arguments)
    assert result.exit_code == 0, result.output
    record: dict[str, Any] = json.loads(result.stdout)
    return {"figures": record["figures"], "aggregations": record["results"]["aggregations"]} | {
        name: record["config"][name] for name in INPUT_FIELDS
    }


@pytest.fixture(scope="module")
def of_run(pretrained_run: Path, labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the run itself retrieves."""
    return retrieved(pretrained_run, labelled, tmp_path_factory.mktemp("of-run"))


def stated(checkpoint: Path, *options: object) -> dict[str, Any]:
    """The model and the inputs that commands take `checkpoint` for."""
    result = run("checkpoint", "inspect", checkpoint, "--json", *options)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    return {name: record[name] for name in ("model_config", "classifier_config", "inputs", "training")}


def test_an_exported_file_scores_as_its_run_without_a_warning(
    of_run: dict[str, Any], exported: Path, labelled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert of_run["mel_mean"] == STATISTICS["mel_mean"]
    assert retrieved(exported, labelled, tmp_path / "of-file") == of_run
    assert "does not state" not in caplog.text


def test_without_its_record_a_warning_names_each_field_and_the_fields_can_be_given(
    of_run: dict[str, Any], exported: Path, labelled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = json.loads((exported.parent / "x.pth.json").read_text())
    (exported.parent / "x.pth.json").unlink()
    warning = run("checkpoint", "inspect", exported, "--set", "num_heads=1").output
    with caplog.at_level(logging.WARNING):
        LoadedCheckpoint.load(exported, num_heads=1)
    for text in (warning, caplog.text):
        for name in ("decoder_num_heads", "norm_pix", *INPUT_FIELDS):
            assert f"{name}=" in text
        assert " num_heads=1," not in text
        assert "--set FIELD=VALUE" in text
    caplog.clear()
    stated = record["model_config"] | record["inputs"]
    names = ("num_heads", "keep_registers", "decoder_num_heads", "norm_pix", *INPUT_FIELDS)
    given = [part for name in names for part in ("--set", f"{name}={json.dumps(stated[name])}")]
    assert retrieved(exported, labelled, tmp_path / "given", *given) == of_run
    assert not caplog.text


def test_a_record_of_another_file_and_a_damaged_record_are_refused_with_both_names(
    exported: Path, tmp_path: Path
) -> None:
    record = exported.parent / "x.pth.json"
    other = tmp_path / "y.pth"
    shutil.copy(exported, other)
    with other.open("ab") as file:
        file.write(b"more")
    shutil.copy(record, tmp_path / "y.pth.json")
    result = run("checkpoint", "inspect", other)
    assert result.exit_code == 1
    assert "y.pth.json was written for another file than y.pth is now" in output_text(result)
    record.write_text(record.read_text()[:100])
    result = run("checkpoint", "inspect", exported)
    assert result.exit_code == 1
    assert "x.pth.json cannot be read" in output_text(result)


def test_another_prefix_is_read_back_too(pretrained_run: Path, tmp_path: Path) -> None:
    result = run("checkpoint", "export", pretrained_run, tmp_path / "x.pth", "--prefix", "encoder.")
    assert result.exit_code == 0, result.output
    assert stated(tmp_path / "x.pth") == stated(pretrained_run)


def test_an_exported_file_is_imported_and_exported_again_with_all_it_states(
    pretrained_run: Path, exported: Path, tmp_path: Path
) -> None:
    for command, start, out in (
        ("import", exported, tmp_path / "back.safetensors"),
        ("export", tmp_path / "back.safetensors", tmp_path / "again.pth"),
    ):
        result = run("checkpoint", command, start, out)
        assert result.exit_code == 0, result.output
        assert "does not state" not in result.output
    assert stated(tmp_path / "again.pth") == stated(pretrained_run)


def test_given_statistics_stay_with_an_imported_file(exported: Path, tmp_path: Path) -> None:
    (exported.parent / "x.pth.json").unlink()
    sets = (
        "--set",
        "mel_mean=-4.25",
        "--set",
        "mel_std=3",
        "--set",
        "num_heads=1",
        "--set",
        "decoder_num_heads=1",
    )
    result = run("checkpoint", "import", exported, tmp_path / "ours.safetensors", *sets)
    assert result.exit_code == 0, result.output
    assert "alignment=upstream" in output_text(result)
    assert "mel_mean=-4.25, mel_std=3" in stated(tmp_path / "ours.safetensors")["inputs"]


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoints/last.pt"])
def test_a_file_copied_out_of_its_run_is_read_as_in_it(
    pretrained_run: Path, tmp_path: Path, name: str
) -> None:
    copied = tmp_path / "elsewhere" / Path(name).name
    copied.parent.mkdir()
    shutil.copy(pretrained_run / name, copied)
    in_run, out_of_it = stated(pretrained_run), stated(copied)
    assert (out_of_it["model_config"], out_of_it["inputs"]) == (in_run["model_config"], in_run["inputs"])
    assert LoadedCheckpoint.load(copied).inputs == LoadedCheckpoint.load(pretrained_run).inputs


def test_a_foreign_file_in_a_run_folder_does_not_get_that_runs_statistics(
    tuned_run: Path, pretrained_run: Path, tmp_path: Path
) -> None:
    """A run's own file keeps its statistics in another run's folder; a published one has the published ones there."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = json.loads((tuned_run / "config.json").read_text())
    config["data"] |= {"mel_mean": 99.0}
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(pretrained_run / "model.safetensors", folder / "copied.safetensors")
    assert "mel_mean=-3.5" in stated(folder / "copied.safetensors")["inputs"]
    assert run("checkpoint", "export", pretrained_run, folder / "x.pth").exit_code == 0
    (folder / "x.pth.json").unlink()
    assert "mel_mean=-5.081 (assumed)" in stated(folder / "x.pth", "--set", "num_heads=1")["inputs"]


def test_an_exported_classifier_keeps_its_classes_its_modality_and_its_statistics(
    tuned_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run("checkpoint", "export", tuned_run, tmp_path / "x.pth").exit_code == 0
    records = []
    for checkpoint, out in ((tuned_run, "a"), (tmp_path / "x.pth", "b")):
        result = run("eval", "classification", "--checkpoint", checkpoint, "--out", tmp_path / out, "--json")
        assert result.exit_code == 0, result.output
        records.append(json.loads(result.stdout))
    assert records[0]["figures"] == records[1]["figures"]
    assert records[0]["config"] == records[1]["config"]
    assert records[0]["config"]["mel_mean"] == STATISTICS["mel_mean"]
    assert "does not state" not in caplog.text
    (tmp_path / "x.pth.json").unlink()
    result = run("eval", "classification", "--checkpoint", tmp_path / "x.pth", "--set", "num_heads=1")
    assert result.exit_code == 1
    assert "modality=both" in caplog.text
    assert "--data DIR" in output_text(result)


def test_a_probe_starts_with_the_statistics_of_an_exported_file(
    exported: Path, labelled: Path, tmp_path: Path
) -> None:
    options = (
        "--data",
        labelled,
        "--epochs",
        "1",
        "--device",
        "cpu",
        "--set",
        "batch_size=4",
        "--num-workers",
        "0",
        "--set",
        "precision=float32",
        "--head",
        "linear",
    )
    result = run("train", "probe", "--from", exported, "--run", tmp_path / "probe", *options)
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "probe" / "config.json").read_text())
    assert config["data"]["mel_mean"] == STATISTICS["mel_mean"]
    (exported.parent / "x.pth.json").unlink()
    given = ("--from-set", "num_heads=1", "--from-set", "mel_mean=-4.25", "--from-set", "mel_std=3")
    result = run("train", "probe", "--from", exported, "--run", tmp_path / "given", *given, *options)
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "given" / "config.json").read_text())
    assert config["data"]["mel_mean"] == -4.25


def test_exported_programs_state_their_inputs_and_name_the_head_that_they_lack(
    tuned_run: Path, tmp_path: Path
) -> None:
    result = run("checkpoint", "export", tuned_run, tmp_path / "programs", "--format", "torch-export")
    assert result.exit_code == 0, result.output
    stated = json.loads((tmp_path / "programs" / "encoders.json").read_text())
    assert {name: stated["inputs"][name] for name in STATISTICS} == STATISTICS
    assert stated["inputs"]["alignment"] == "time"
    assert "the mlp head of 3 classes" in output_text(result)


@pytest.mark.parametrize(
    "command",
    [
        *(
            ("eval", name)
            for name in ("retrieval", "classification", "segmentation", "localization", "synchrony")
        ),
        *(("checkpoint", name) for name in ("inspect", "import", "export")),
        ("embed",),
        ("search",),
        ("localize",),
    ],
    ids=" ".join,
)
def test_every_command_that_takes_a_checkpoint_has_the_option_set(command: tuple[str, ...]) -> None:
    assert "mel_mean" in output_text(run(*command, "--help"))


def test_a_misspelt_field_or_an_impossible_value_is_named(exported: Path, labelled: Path) -> None:
    for text, message in (("mel_maen=3", "did you mean 'mel_mean'"), ("num_heads", "is not FIELD=VALUE")):
        result = run("eval", "retrieval", "--checkpoint", exported, "--data", labelled, "--set", text)
        assert (result.exit_code, message in output_text(result)) == (2, True)
    result = run("eval", "retrieval", "--checkpoint", exported, "--data", labelled, "--set", "mel_std=wide")
    assert result.exit_code == 1
    assert "mel_std='wide' must be a number" in output_text(result)


@pytest.fixture(autouse=True)
def warnings_are_caught(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="cavsync")
