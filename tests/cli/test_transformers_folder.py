"""Proves that transformers loads an exported folder without this package, with the same outputs, and that it comes back."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.command_line import output_text, run
from support.documents.elsewhere import run_elsewhere
from support.known_shards import micro_model

from cavsync import load_model, open_run
from cavsync.model.cavmae_sync import CavMaeSync
from cavsync.model.checkpoints.checkpoint import save_model
from cavsync.model.checkpoints.hub import HubModel
from cavsync.model.classifier import CavMaeClassifier
from cavsync.model.classifier_config import ClassifierConfig
from cavsync.pipeline.dataset.sampling import window_starts
from cavsync.pipeline.media.mel import long_log_mel
from cavsync.pipeline.storage.path import sha256
from cavsync.train.data.images import fit, normalise_images
from cavsync.train.data.run import newest_checkpoint
from cavsync.train.data.window import WindowRule
from cavsync.train.engine.run_folder import RunError
from cavsync.train.huggingface.folder import modeling_code, processing_code

MODEL = micro_model(audio_rows=64)
# Unlike the published values.
INPUTS: dict[str, Any] = {"mel_mean": -3.5, "mel_std": 2.5, "pad_value": -8.0, "alignment": "time"}
TRAINING = {
    "step": 4,
    "initial_weights": "random weights",
    "config": {
        "preset": "micro",
        "batch_size": 2,
        "data": {"path": "data/known", "split": "train", **INPUTS},
    },
}
LABELS = {"labels": ["/m/a", "/m/b", "/m/c"], "label_names": ["bark", "bell", "rain"], "task": "multi-label"}
CLASSIFIERS = {
    "both": ClassifierConfig(num_classes=3),
    "audio": ClassifierConfig(num_classes=3, modality="audio", head="mlp", features="own"),
}
FRAME_TIMES_S = [0.2, 0.9, 1.9]
FIGURES = {
    "R@1 of audio to video": {
        "value": 62.5,
        "low": 50.1,
        "high": 75.25,
        "chance": 0.5,
        "unit": "%",
        "note": "",
    }
}

# In one process, since importing torch and transformers takes most of its time.
LOADED_ELSEWHERE = """
import importlib.util, json, torch
from PIL import Image
from transformers import AutoModel, AutoModelForAudioClassification, AutoModelForVideoClassification, AutoProcessor

assert importlib.util.find_spec("cavsync") is None and importlib.util.find_spec("timm") is None
torch.set_num_threads(1)
given = torch.load("given.pt", weights_only=True)
frames = [Image.open("0.png"), Image.open("1.png"), Image.open("2.png")]
load = dict(trust_remote_code=True)
found = {}

processor = AutoProcessor.from_pretrained("pretrained-hf", **load)
waveform = given["waveform"].numpy()
inputs = processor(audio=waveform, images=frames, frame_times_s=given["times_s"], sampling_rate=16000)
found["segments"], found["images"] = inputs["input_values"], inputs["pixel_values"]
found["first"] = processor(audio=waveform)["input_values"]
several = processor(audio=[waveform, waveform[8000:]], images=[frames, frames[::-1]])
found["several"], found["videos"] = several["input_values"], several["pixel_values"]
found["listed"] = processor(audio=waveform.tolist())["input_values"]
found["arrays"] = processor(images=[given["array"].numpy(), given["array"].permute(2, 0, 1)])["pixel_values"]
refusals = {}
for name, arguments in {
    "nothing": {},
    "rate": {"audio": waveform, "sampling_rate": 44100},
    "integers": {"audio": (waveform * 32767).astype("int16")},
    "short": {"audio": waveform[:100]},
    "NaN": {"audio": waveform * float("nan")},
    "gray": {"images": given["array"][..., 0].numpy()},
    "floats": {"images": given["array"] / 255},
    "ragged": {"images": [frames, frames[:1]]},
    "times": {"audio": [waveform], "frame_times_s": [[0.1], [0.2]]},
    "empty": {"images": []},
}.items():
    try:
        processor(**arguments)
    except ValueError as error:
        refusals[name] = str(error)

model = AutoModel.from_pretrained("pretrained-hf", **load)
with torch.inference_mode():
    output = model(given["audio"], given["image"])
    found |= {name: output[name] for name in ("audio_embeds", "image_embeds", "logits_audio_image")}
    found["audio_token"], found["audio_patches"] = output.audio_outputs.pooler_output, output.audio_outputs.last_hidden_state
    found["image_token"], found["image_patches"] = output.image_outputs.pooler_output, output.image_outputs.last_hidden_state
    found["of_segments"] = model.get_audio_embeds(given["audio"].unsqueeze(1))
    found["of_images"] = model.get_image_embeds(given["image"])
    torch.manual_seed(0)
    found["loss"] = model(given["audio"], given["image"], return_loss=True).loss
    both = AutoModelForVideoClassification.from_pretrained("both-hf", **load)
    found["both"] = both(given["audio"].unsqueeze(0), given["image"].unsqueeze(0)).logits
    labels = torch.tensor([[1.0, 0.0, 1.0]])
    found["both_loss"] = both(given["audio"].unsqueeze(0), given["image"].unsqueeze(0), labels=labels).loss
    audio = AutoModelForAudioClassification.from_pretrained("audio-hf", **load)
    found["audio"] = audio(given["audio"]).logits
both_anyhow = AutoModel.from_pretrained("both-hf", **load)

# Trained on for a step, and saved by transformers: the way back.
torch.manual_seed(0)
new = AutoModelForVideoClassification.from_pretrained("pretrained-hf", num_labels=2, **load)
assert torch.equal(new.model.patch_embed_a.proj.weight, model.model.patch_embed_a.proj.weight)
optimizer = torch.optim.SGD(new.parameters(), lr=0.01)
loss = new(given["audio"], given["image"], labels=torch.tensor([0, 1])).loss
loss.backward()
optimizer.step()
new.eval()
with torch.inference_mode():
    found["new"] = new(given["audio"], given["image"]).logits
new.save_pretrained("new-hf")
processor.save_pretrained("new-hf")
again = AutoProcessor.from_pretrained("new-hf", **load)

torch.save({name: tensor.detach().clone() for name, tensor in found.items()}, "found.pt")
facts = {"refusals": refusals, "both": type(both_anyhow).__name__, "labels": both.config.id2label}
facts |= {"problem": both.config.problem_type, "again": [again.mel_mean, again.pad_value]}
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a pretrained model, with a report, and of two classifiers, and their exported folders NAME-hf."""
    home = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    save_model(CavMaeSync(MODEL), home / "pretrained", TRAINING)
    write_report(home / "pretrained" / "retrieval-test", home / "pretrained" / "model.safetensors")
    for name, config in CLASSIFIERS.items():
        save_model(CavMaeClassifier(MODEL, config), home / name, TRAINING | LABELS)
    for name in ("pretrained", *CLASSIFIERS):
        exported(home / name, home / f"{name}-hf")
    return home


def write_report(folder: Path, weights: Path) -> None:
    folder.mkdir(parents=True)
    record = {
        "evaluation": "retrieval",
        "figures": FIGURES,
        "counts": {"scored": 200},
        "data": {"path": "data/known"},
        "checkpoint": {"sha256": sha256(weights)},
    }
    (folder / "report.json").write_text(json.dumps(record))


def exported(checkpoint: Path, out: Path, *options: object) -> dict[str, Any]:
    result = run("checkpoint", "export", checkpoint, out, "--format", "transformers", "--json", *options)
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads(result.stdout)
    return content


@pytest.fixture(scope="module")
def given(home: Path) -> dict[str, torch.Tensor]:
    """Inputs, which lie in given.pt and as images beside it."""
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(home / f"{number}.png")
    torch.manual_seed(1)
    inputs = {
        "audio": torch.randn(2, MODEL.audio_rows, MODEL.num_mels),
        "image": torch.randn(2, 3, MODEL.image_size, MODEL.image_size),
        "waveform": torch.rand(32_000) - 0.5,
        "times_s": torch.tensor(FRAME_TIMES_S, dtype=torch.float64),
        "array": torch.randint(0, 256, (MODEL.image_size, MODEL.image_size, 3), dtype=torch.uint8),
    }
    torch.save(inputs, home / "given.pt")
    return inputs


@pytest.fixture(scope="module")
def facts(home: Path, given: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What transformers says of the folders; their outputs lie in found.pt."""
    content: dict[str, Any] = json.loads(run_elsewhere(LOADED_ELSEWHERE, home).splitlines()[-1])
    return content


@pytest.fixture(scope="module")
def found(home: Path, facts: dict[str, Any]) -> dict[str, torch.Tensor]:
    outputs: dict[str, torch.Tensor] = torch.load(home / "found.pt", weights_only=True)
    return outputs


def require_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected.detach(), atol=1e-6, rtol=0)


@pytest.mark.slow
def test_the_pretrained_model_has_the_outputs_of_its_run(
    home: Path, given: dict[str, torch.Tensor], found: dict[str, torch.Tensor]
) -> None:
    model = load_model(home / "pretrained")
    with torch.inference_mode():
        audio, image = model.encode_audio(given["audio"]), model.encode_image(given["image"])
        torch.manual_seed(0)
        loss = model(given["audio"], given["image"]).loss
    for name, encoding in (("audio", audio), ("image", image)):
        require_near(found[f"{name}_token"], encoding.global_token)
        require_near(found[f"{name}_patches"], encoding.patches)
        unit = encoding.global_token / encoding.global_token.norm(dim=-1, keepdim=True)
        require_near(found[f"{name}_embeds"], unit)
    require_near(found["of_segments"].squeeze(1), found["audio_embeds"])
    require_near(found["of_images"], found["image_embeds"])
    require_near(found["logits_audio_image"], found["audio_embeds"] @ found["image_embeds"].T)
    require_near(found["loss"], loss)


@pytest.mark.slow
def test_classifiers_have_the_logits_of_their_runs_and_their_classes(
    home: Path, given: dict[str, torch.Tensor], found: dict[str, torch.Tensor], facts: dict[str, Any]
) -> None:
    with torch.inference_mode():
        both = load_model(home / "both")(given["audio"].unsqueeze(0), given["image"].unsqueeze(0))
        audio = load_model(home / "audio")(given["audio"].unsqueeze(1))
    require_near(found["both"], both)
    require_near(found["audio"], audio)
    labels = torch.tensor([[1.0, 0.0, 1.0]])
    require_near(
        found["both_loss"], -(labels * both.sigmoid().log() + (1 - labels) * (-both).sigmoid().log()).mean()
    )
    assert facts["both"] == "CavMaeSyncForVideoClassification"
    assert facts["labels"] == {"0": "bark", "1": "bell", "2": "rain"}
    assert facts["problem"] == "multi_label_classification"


@pytest.mark.slow
def test_the_processor_makes_the_inputs_that_this_package_makes(
    home: Path, given: dict[str, torch.Tensor], found: dict[str, torch.Tensor]
) -> None:
    mel = long_log_mel(given["waveform"].numpy())
    rule = WindowRule(MODEL.audio_rows, INPUTS["mel_mean"], INPUTS["mel_std"], INPUTS["pad_value"])
    starts = window_starts(FRAME_TIMES_S, len(mel), MODEL.audio_rows)
    assert len(set(starts.tolist())) == 3
    assert torch.equal(found["segments"], torch.stack([rule.normalised(mel, int(start)) for start in starts]))
    assert torch.equal(found["first"], rule.normalised(mel, 0).unsqueeze(0))
    later = rule.normalised(long_log_mel(given["waveform"][8000:].numpy()), 0)
    assert torch.equal(found["several"], torch.stack([rule.normalised(mel, 0), later]))
    assert torch.equal(found["listed"], found["first"])
    pixels = [torch.from_numpy(np.array(Image.open(home / f"{number}.png"))) for number in range(3)]
    images = normalise_images(torch.stack([fit(one, MODEL.image_size) for one in pixels]))
    assert torch.equal(found["images"], images)
    assert torch.equal(found["videos"], torch.stack([images, images.flip(0)]))
    assert torch.equal(found["arrays"], normalise_images(given["array"]).expand(2, -1, -1, -1))


@pytest.mark.slow
def test_the_processor_refuses_what_it_would_misread_and_says_what_to_give(facts: dict[str, Any]) -> None:
    parts = {
        "nothing": "give audio, images or both",
        "rate": "resample it to 16000 Hz",
        "integers": "int16 / 32768",
        "short": "audio of 100 samples is shorter than one log-mel row, 400",
        "NaN": "NaN or infinite samples",
        "gray": "neither a frame nor a list of frames",
        "floats": "give PIL images, or uint8",
        "ragged": "lists of different lengths: [3, 1]",
        "times": "1 waveforms came with 2 lists in frame_times_s",
        "empty": "images has an empty list",
    }
    assert facts["refusals"].keys() == parts.keys()
    for name, part in parts.items():
        assert part in facts["refusals"][name]


@pytest.mark.slow
def test_what_transformers_trained_and_saved_is_read_back_wherever_a_checkpoint_is_named(
    home: Path,
    given: dict[str, torch.Tensor],
    found: dict[str, torch.Tensor],
    facts: dict[str, Any],
    tmp_path: Path,
) -> None:
    assert facts["again"] == [INPUTS["mel_mean"], INPUTS["pad_value"]]
    result = run("checkpoint", "inspect", home / "new-hf", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["classifier_config"]["num_classes"] == 2
    assert report["model_config"] == asdict(MODEL)
    assert "mel_mean=-3.5, mel_std=2.5, pad_value=-8.0" in report["inputs"]
    assert "assumed" not in result.output
    run("checkpoint", "import", home / "new-hf", tmp_path / "ours.safetensors")
    for path in (home / "new-hf", tmp_path / "ours.safetensors"):
        with torch.inference_mode():
            require_near(
                found["new"], load_model(path)(given["audio"].unsqueeze(1), given["image"].unsqueeze(1))
            )


def test_an_exported_folder_states_all_that_its_run_states(home: Path) -> None:
    for name in ("pretrained", *CLASSIFIERS):
        reports = [
            json.loads(run("checkpoint", "inspect", home / folder, "--json").stdout)
            for folder in (name, f"{name}-hf")
        ]
        for field in ("model_config", "classifier_config", "training", "inputs"):
            assert reports[0][field] == reports[1][field]


def test_a_folder_is_a_checkpoint_also_through_the_hubs_classes_and_is_no_run(
    home: Path, tmp_path: Path
) -> None:
    expected = load_model(home / "pretrained").state_dict()
    found = HubModel.from_pretrained(home / "pretrained-hf").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    with pytest.raises(
        RunError, match=r"holds no run: config\.json is .* not one that `cavsync train` wrote"
    ):
        open_run(home / "pretrained-hf")
    # It is newer than the run, but no run.
    shutil.copytree(home / "pretrained", tmp_path / "runs" / "mine")
    (tmp_path / "runs" / "mine" / "config.json").write_text(json.dumps({"data": {}}))
    shutil.copytree(home / "pretrained-hf", tmp_path / "runs" / "exported")
    assert newest_checkpoint(tmp_path / "runs").weights.parent.name == "mine"


def test_the_code_of_a_folder_is_that_of_this_package_generated_again(home: Path) -> None:
    for name, code in (("modeling", modeling_code()), ("processing", processing_code())):
        assert (home / "both-hf" / f"{name}_cavmae_sync.py").read_text() == code


def test_the_model_card_says_the_training_the_figures_and_the_limits(home: Path) -> None:
    card = (home / "pretrained-hf" / "README.md").read_text()
    assert "| dataset | known |" in card
    assert "| started from | random weights |" in card
    assert "`cavsync eval retrieval` on 200 items of known" in card
    assert "| R@1 of audio to video | 62.5 % | 50.1 % to 75.25 % | 0.5 % |" in card
    assert "An input is 0.64 s of audio" in card
    assert "No licence of the weights is stated" in card
    assert "AutoModelForVideoClassification" in (home / "both-hf" / "README.md").read_text()


def test_figures_are_those_of_the_exported_weights_unless_others_are_named(
    home: Path, tmp_path: Path
) -> None:
    shutil.copytree(home / "pretrained", tmp_path / "run")
    save_model(CavMaeSync(MODEL), tmp_path / "run", TRAINING)
    assert exported(tmp_path / "run", tmp_path / "a")["reports"] == "0 in the model card"
    assert "No evaluation of these weights" in (tmp_path / "a" / "README.md").read_text()
    report = tmp_path / "run" / "retrieval-test"
    assert exported(tmp_path / "run", tmp_path / "b", "--report", report)["reports"] == "1 in the model card"
    assert "62.5 %" in (tmp_path / "b" / "README.md").read_text()


def test_a_moving_average_is_exported_without_the_figures_of_the_weights(tmp_path: Path) -> None:
    model = CavMaeSync(MODEL)
    average = {
        name: parameter.detach() + 1
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    content = TRAINING | {"model": model.state_dict(), "model_config": asdict(MODEL), "ema": average}
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    torch.save(content, last)
    write_report(tmp_path / "run" / "retrieval-test", last)
    assert exported(tmp_path / "run", tmp_path / "plain")["reports"] == "1 in the model card"
    assert exported(tmp_path / "run", tmp_path / "averaged", "--ema")["reports"] == "0 in the model card"
    plain, averaged = (load_model(tmp_path / name).state_dict() for name in ("plain", "averaged"))
    torch.testing.assert_close(averaged["norm.weight"], plain["norm.weight"] + 1)
    assert torch.equal(averaged["pos_embed_a"], plain["pos_embed_a"])
    assert "their moving average, ema.momentum" in (tmp_path / "averaged" / "README.md").read_text()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "model.safetensors").unlink(),
            "holds neither model.safetensors nor checkpoints/last.pt",
        ),
        (lambda folder: (folder / "config.json").unlink(), "the config.json of that folder is not beside it"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be read"),
        (
            lambda folder: edit(folder, num_registers=5),
            "misshapen (register_tokens is (2, 16) and should be (10, 16))",
        ),
        (lambda folder: edit(folder, size=5), "unexpected keyword argument 'size'"),
    ],
    ids=["no weights", "no config", "damaged config", "another model", "unknown field"],
)
def test_a_damaged_folder_is_refused_with_the_reason(
    home: Path, tmp_path: Path, damage: Any, message: str
) -> None:
    folder = shutil.copytree(home / "pretrained-hf", tmp_path / "folder")
    damage(folder)
    result = run("checkpoint", "inspect", folder)
    assert result.exit_code == 1
    assert message in output_text(result)


def edit(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model_config"] |= fields
    (folder / "config.json").write_text(json.dumps(config))


def test_a_report_that_is_none_and_a_format_without_a_card_are_refused(home: Path, tmp_path: Path) -> None:
    command = ("checkpoint", "export", home / "pretrained")
    missing = run(*command, tmp_path / "x", "--format", "transformers", "--report", home)
    assert missing.exit_code == 1
    assert "report.json is no report" in output_text(missing)
    other = run(*command, tmp_path / "x", "--format", "onnx", "--report", home)
    assert other.exit_code == 2
    assert "only a folder for transformers has a model card" in output_text(other)
    file = run(*command, tmp_path / "x.pth", "--format", "transformers")
    assert file.exit_code == 2
    assert "must be a folder" in output_text(file)
    assert not (tmp_path / "x").exists()
