"""`flowvqtalker speech`: features of every crop with sound, kept while sound and weights stay; clear errors without them."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from pipeline.cli import app, speech
from pipeline.errors import PipelineError
from pipeline.io import read_npz, text_sha256, write_index, write_npz
from pipeline.media import write_sound

N = 25


@pytest.fixture
def crops(tmp_path):
    """Three crops: one with a click in frame 9, one with noise, one without sound."""
    folder = tmp_path / "data" / "crop"
    rng, rows = np.random.default_rng(0), []
    for clip, has_sound in (("a_click", True), ("b_noise", True), ("c_mute", False)):
        sound = 0.01 * rng.standard_normal(N * 640).astype(np.float32)
        if clip == "a_click":
            sound[9 * 640 + 320] = 0.9
        if has_sound:
            write_sound(folder / f"clips/{clip}.wav", sound)
        write_npz(folder / f"clips/{clip}.npz", {"landmarks_px": np.zeros((N, 68, 2), np.float32)})
        rows.append({
            "clip": clip, "role": "talk", "kind": "video", "video": f"clips/{clip}.mp4", "sound": f"clips/{clip}.wav" if has_sound else "",
            "audio_status": "ok" if has_sound else "none", "landmarks": f"clips/{clip}.npz", "size_px": 64, "sha256": text_sha256(clip),
            "status": "ok", "reason": "", "split": "test", "identity": "p", "n_frames": N, "emotion": "", "source": "toy",
        })  # fmt: skip
    write_index(folder / "index.csv", rows, "crop")
    return folder


class Loudness:
    """Stands in for a network: two steps a frame at the real geometry; the only feature is the loudness of what a step sees."""

    def __init__(self):
        self.calls = 0

    def __call__(self, sound, output_hidden_states):
        self.calls += 1
        hidden = sound.unfold(1, 400, 320).square().sum(-1, keepdim=True)
        return type("Output", (), {"hidden_states": (hidden,)})


def test_every_crop_with_sound_gets_a_row_a_frame_and_is_made_once(crops, tmp_path):
    model, out = Loudness(), tmp_path / "speech"
    index = speech.write_features(crops, out, model, "weights 1").set_index("clip")
    assert index.loc["c_mute", ["status", "reason", "file"]].tolist() == ["rejected", "no sound", ""]
    features = read_npz(out / index.loc["a_click", "file"])["features"]
    assert features.shape == (N, 1) and int(features[:, 0].argmax()) == 9
    assert model.calls == 2
    text = (out / "index.csv").read_bytes()
    speech.write_features(crops, out, model, "weights 1")
    assert model.calls == 2 and (out / "index.csv").read_bytes() == text
    # Other weights or another sound: computed again.
    speech.write_features(crops, out, model, "weights 2")
    assert model.calls == 4
    write_sound(crops / "clips/b_noise.wav", np.zeros(N * 640, np.float32))
    speech.write_features(crops, out, model, "weights 2")
    assert model.calls == 5
    assert pd.read_csv(out / "index.csv")["clip"].tolist() == ["a_click", "b_noise", "c_mute"]


def test_missing_weights_and_package_are_named_with_source_and_size(tmp_path, monkeypatch):
    monkeypatch.setenv("FVQT_ASSETS", str(tmp_path))
    monkeypatch.setenv("FVQT_SHARED", str(tmp_path / "none"))
    with pytest.raises(PipelineError, match=r"377\.6 MB, from https://huggingface\.co/facebook/wav2vec2-base-960h") as error:
        speech.load_model("wav2vec2")
    assert "make assets" in error.value.hint


def test_the_command_says_what_to_set_and_what_to_make_first(tmp_path, capsys):
    assert _status(["speech"]) == 2
    assert "outside.speech" in capsys.readouterr().err
    overlay = tmp_path / "o.yaml"
    overlay.write_text(yaml.safe_dump({"name": "no_such_run", "outside": {"speech": "hubert"}}))
    assert _status(["speech", "--configfile", str(overlay)]) == 2
    assert "runs/no_such_run/data/crop/index.csv" in capsys.readouterr().err


def _status(words: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        app.main(words)
    return int(stop.value.code or 0)


def test_checkpoints_of_both_formats_are_read_and_garbage_is_named(tmp_path):
    from safetensors.torch import save_file

    state = {"a.weight": torch.arange(4.0)}
    save_file(state, tmp_path / "model.safetensors")
    torch.save(state, tmp_path / "model.bin")
    for name in ("model.safetensors", "model.bin"):
        assert torch.equal(speech.read_weights(tmp_path / name)["a.weight"], state["a.weight"])
        (tmp_path / name).write_bytes(b"garbage")
        with pytest.raises(PipelineError, match="not a readable checkpoint"):
            speech.read_weights(tmp_path / name)
