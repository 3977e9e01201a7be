"""Folders: whole ones of any form are loaded, every other one is a line that says what to do."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from metavox.adaptation.adapter import Adapter, AdapterConfig
from metavox.errors import UserError
from metavox.recognisers import registry
from metavox.recognisers.ctc.folder import load
from metavox.recognisers.recogniser import DecodeOptions
from tests.recognisers.ctc.conftest import LETTERS, make_network, speech, write_about, write_json

Make = Callable[..., Path]


def refused(folder: Path, language: str = "") -> str:
    with pytest.raises(UserError) as raised:
        load(folder, "base", "d" * 64, language)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_the_registry_loads_it(make_folder: Make) -> None:
    recogniser = registry.load(make_folder("wavlm-large"))
    assert recogniser.spec.kind == "ctc"
    assert recogniser.spec.sample_rate_hz == 16000
    assert recogniser.spec.languages == ()
    assert not any(weight.requires_grad for weight in recogniser.network.parameters())
    assert not recogniser.network.training


def test_parts_and_old_names_of_weights_give_the_same(make_folder: Make, tmp_path: Path) -> None:
    whole = make_folder("xls-r")
    expected = load(whole, "base", "d" * 64).loss([speech(1.0)], ["rain"])
    parts = tmp_path / "parts"
    make_network("xls-r").save_pretrained(parts, max_shard_size="10KB")
    write_about(parts)
    assert len(list(parts.glob("*.safetensors"))) > 2
    torch.testing.assert_close(load(parts, "base", "d" * 64).loss([speech(1.0)], ["rain"]), expected)
    weights = load_file(whole / "model.safetensors")
    new = "parametrizations.weight.original"
    old = {n.replace(f"{new}0", "weight_g").replace(f"{new}1", "weight_v"): v for n, v in weights.items()}
    save_file(old, whole / "model.safetensors", {"format": "pt"})
    torch.testing.assert_close(load(whole, "base", "d" * 64).loss([speech(1.0)], ["rain"]), expected)


def test_half_floats_become_whole(make_folder: Make) -> None:
    folder = make_folder("hubert")
    weights = {n: v.half() for n, v in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    network = load(folder, "base", "d" * 64).network
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


def test_a_pretraining_checkpoint_has_no_alphabet_and_can_be_given_one(tmp_path: Path) -> None:
    import transformers

    folder = tmp_path / "pretrained"
    config = make_network("xls-r").config
    transformers.Wav2Vec2ForPreTraining(config).save_pretrained(folder)
    recogniser = load(folder, "base", "d" * 64)
    assert recogniser.transcribe([speech(1.0)])[0].text == ""
    assert recogniser.missing_characters(["so be it"]) == " beiost"
    assert recogniser.grown(" beiost").writable("So be it!") == "so be it"


def test_pickled_weights(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pytorch_model.bin" in refused(folder)


def test_code_of_its_own(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | {"auto_map": {"AutoModelForCTC": "model.Net"}})
    assert "never" in refused(folder)


def test_unknown_architecture(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    write_json(folder / "config.json", {"model_type": "parakeet"})
    assert "'parakeet'; expected one of wav2vec2" in refused(folder)


@pytest.mark.parametrize("left", [0.5, 0.01])
def test_weights_cut_off(left: float, make_folder: Make) -> None:
    folder = make_folder("xls-r")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: int(len(data) * left)])
    assert "model.safetensors" in refused(folder)


def test_weights_that_lack_or_do_not_fit(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    weights = load_file(folder / "model.safetensors")
    dropped = next(name for name in weights if name.endswith("q_proj.weight"))
    save_file(
        {n: v for n, v in weights.items() if n != dropped}, folder / "model.safetensors", {"format": "pt"}
    )
    assert "q_proj.weight" in refused(folder)
    save_file(weights | {dropped: torch.zeros(3, 3)}, folder / "model.safetensors", {"format": "pt"})
    refused(folder)
    save_file(
        weights | {"lm_head.weight": torch.zeros(32, 8)}, folder / "model.safetensors", {"format": "pt"}
    )
    assert "the head is (32, 8), the encoder 16 wide" in refused(folder)


def test_adapters_that_are_nowhere(make_folder: Make) -> None:
    folder = make_folder("xls-r", adapter_attn_dim=4)
    load(folder, "base", "d" * 64)
    weights = {n: v for n, v in load_file(folder / "model.safetensors").items() if "adapter_layer" not in n}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "adapter_layer" in refused(folder)


def test_vocabulary_of_another_head(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    write_json(folder / "vocab.json", {token: i for i, token in enumerate(LETTERS[:-3])})
    assert "29 tokens, but the head has 32 rows" in refused(folder)
    write_json(folder / "vocab.json", {token: 2 * i for i, token in enumerate(LETTERS)})
    refused(folder)
    write_json(folder / "vocab.json", {token: str(i) for i, token in enumerate(LETTERS)})
    assert "expected a number" in refused(folder)
    write_json(folder / "vocab.json", ["a"])
    assert "list" in refused(folder)
    (folder / "vocab.json").write_text("{")
    assert "vocab.json" in refused(folder)
    (folder / "vocab.json").unlink()
    assert "vocab.json" in refused(folder)


def test_marks_that_were_added_later_count(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    added = {"<s>": 31, "</s>": 40}  # the second one never got a row
    letters = [t for t in LETTERS if t not in added] + ["-"]
    write_about(folder, {t: i for i, t in enumerate(letters)})
    write_json(folder / "added_tokens.json", added)
    alphabet = load(folder, "base", "d" * 64).network.alphabet
    assert alphabet.written[31] == ""
    assert alphabet.written[30] == "-"


def test_phonemes(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    write_about(folder, tokenizer_class="Wav2Vec2PhonemeCTCTokenizer")
    assert "phonemes" in refused(folder)


def test_inputs_of_another_model(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    write_json(folder / "preprocessor_config.json", {"feature_size": 80})
    assert "80" in refused(folder)


def test_newer_folders_tell_their_inputs_elsewhere(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    (folder / "preprocessor_config.json").unlink()
    told = {"feature_extractor": {"do_normalize": False, "sampling_rate": 8000}}
    write_json(folder / "processor_config.json", told)
    recogniser = load(folder, "base", "d" * 64)
    assert not recogniser.feature_extractor.normalise
    assert recogniser.spec.sample_rate_hz == 8000


def test_each_language_of_mms_has_an_adapter_an_alphabet_and_a_digest(mms: Path) -> None:
    import transformers

    english, italian = load(mms, "mms", "d" * 64), load(mms, "mms", "d" * 64, "it")
    assert (english.spec.languages, italian.spec.languages) == (("en",), ("it",))
    assert len({english.spec.digest, italian.spec.digest, "d" * 64}) == 3
    assert (english.writable("È là, bad"), italian.writable("È là, bad")) == ("bad", "è bad")
    assert load(mms, "mms", "d" * 64, "ita").spec == italian.spec
    samples = speech(1.0)
    for code, found in (("eng", english), ("ita", italian)):
        theirs = transformers.Wav2Vec2ForCTC.from_pretrained(
            mms, target_lang=code, ignore_mismatched_sizes=True
        ).eval()
        with torch.no_grad():
            expected = theirs(found.feature_extractor.inputs(samples)[None]).logits.log_softmax(dim=2)[0]
            ((_, log_probs, _),) = found._batches([samples])
        torch.testing.assert_close(log_probs[0], expected, atol=1e-4, rtol=1e-4)
    assert italian.transcribe([samples])[0].language == "it"
    assert italian.transcribe([samples], DecodeOptions(language="ita"))[0].language == "it"
    with pytest.raises(UserError, match="loaded for it"):
        italian.transcribe([samples], DecodeOptions(language="en"))


def test_a_delta_belongs_to_one_language_of_mms(mms: Path) -> None:
    english, italian = load(mms, "mms", "d" * 64), load(mms, "mms", "d" * 64, "it")
    adapter = Adapter(italian, AdapterConfig("lora", rank=2))
    assert any("adapter_layer" in name for name in adapter.parameters)
    adapter.recogniser.loss([speech(1.0)], ["bad"]).backward()
    delta = adapter.delta({})
    assert italian.using([delta]).writable("è bad") == "è bad"
    with pytest.raises(UserError, match="was made for base"):
        english.using([delta])


def test_languages_that_mms_lacks(mms: Path) -> None:
    assert "language 'sv': this base knows 2, none of them; expected one of eng, ita" in refused(mms, "sv")
    write_json(mms / "tokenizer_config.json", {"target_lang": "deu"})
    assert "eng, ita" in refused(mms)
    for file in mms.glob("adapter.*"):
        file.unlink()
    assert "adapter.LANGUAGE.safetensors" in refused(mms, "en")


def test_adapters_of_another_model(mms: Path) -> None:
    file = mms / "adapter.ita.safetensors"
    values = load_file(file)
    save_file({n: v for n, v in values.items() if "layers.0" not in n}, file)
    assert "adapter" in refused(mms, "it")
    file.write_bytes(file.read_bytes()[:-10])
    assert "adapter.ita.safetensors" in refused(mms, "it")
