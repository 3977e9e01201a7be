"""Loading of CTC folders: every complete format is loaded, and any other folder is a one-line error."""

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


def error_of(folder: Path, language: str = "") -> str:
    with pytest.raises(UserError) as raised:
        load(folder, "base", "d" * 64, language)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_the_registry_loads_a_folder(make_folder: Make) -> None:
    recogniser = registry.load(make_folder("wavlm-large"))
    assert recogniser.spec.kind == "ctc"
    assert recogniser.spec.sample_rate_hz == 16000
    assert recogniser.spec.languages == ()
    assert not any(weight.requires_grad for weight in recogniser.network.parameters())
    assert not recogniser.network.training


def test_sharded_weights_and_old_weight_names_are_loaded(make_folder: Make, tmp_path: Path) -> None:
    single_file = make_folder("xls-r")
    expected = load(single_file, "base", "d" * 64).loss([speech(1.0)], ["rain"])
    sharded = tmp_path / "parts"
    make_network("xls-r").save_pretrained(sharded, max_shard_size="10KB")
    write_about(sharded)
    assert len(list(sharded.glob("*.safetensors"))) > 2
    torch.testing.assert_close(load(sharded, "base", "d" * 64).loss([speech(1.0)], ["rain"]), expected)
    weights = load_file(single_file / "model.safetensors")
    new = "parametrizations.weight.original"
    old = {n.replace(f"{new}0", "weight_g").replace(f"{new}1", "weight_v"): v for n, v in weights.items()}
    save_file(old, single_file / "model.safetensors", {"format": "pt"})
    torch.testing.assert_close(load(single_file, "base", "d" * 64).loss([speech(1.0)], ["rain"]), expected)


def test_half_precision_is_loaded_as_single(make_folder: Make) -> None:
    folder = make_folder("hubert")
    weights = {n: v.half() for n, v in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    network = load(folder, "base", "d" * 64).network
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


def test_an_alphabet_can_be_added_to_a_pretraining_checkpoint(tmp_path: Path) -> None:
    import transformers

    folder = tmp_path / "pretrained"
    config = make_network("xls-r").config
    transformers.Wav2Vec2ForPreTraining(config).save_pretrained(folder)
    recogniser = load(folder, "base", "d" * 64)
    assert recogniser.transcribe([speech(1.0)])[0].text == ""
    assert recogniser.missing_characters(["so be it"]) == " beiost"
    assert recogniser.with_characters(" beiost").writable("So be it!") == "so be it"


def test_pickled_weights_are_rejected(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pytorch_model.bin" in error_of(folder)


def test_remote_code_is_rejected(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | {"auto_map": {"AutoModelForCTC": "model.Net"}})
    assert "never" in error_of(folder)


def test_an_unknown_architecture_is_rejected(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    write_json(folder / "config.json", {"model_type": "parakeet"})
    assert "'parakeet'; expected one of wav2vec2" in error_of(folder)


@pytest.mark.parametrize("share", [0.5, 0.01])
def test_truncated_weights_are_rejected(share: float, make_folder: Make) -> None:
    folder = make_folder("xls-r")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: int(len(data) * share)])
    assert "model.safetensors" in error_of(folder)


def test_missing_and_mismatched_weights_are_rejected(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    weights = load_file(folder / "model.safetensors")
    dropped = next(name for name in weights if name.endswith("q_proj.weight"))
    save_file(
        {n: v for n, v in weights.items() if n != dropped}, folder / "model.safetensors", {"format": "pt"}
    )
    assert "q_proj.weight" in error_of(folder)
    save_file(weights | {dropped: torch.zeros(3, 3)}, folder / "model.safetensors", {"format": "pt"})
    error_of(folder)
    save_file(
        weights | {"lm_head.weight": torch.zeros(32, 8)}, folder / "model.safetensors", {"format": "pt"}
    )
    assert "the head is (32, 8), but the encoder is 16 wide" in error_of(folder)


def test_missing_adapters_are_rejected(make_folder: Make) -> None:
    folder = make_folder("xls-r", adapter_attn_dim=4)
    load(folder, "base", "d" * 64)
    weights = {n: v for n, v in load_file(folder / "model.safetensors").items() if "adapter_layer" not in n}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "adapter_layer" in error_of(folder)


def test_mismatched_vocabularies_are_rejected(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    write_json(folder / "vocab.json", {token: i for i, token in enumerate(LETTERS[:-3])})
    assert "29 tokens, but the head has 32 rows" in error_of(folder)
    write_json(folder / "vocab.json", {token: 2 * i for i, token in enumerate(LETTERS)})
    error_of(folder)
    write_json(folder / "vocab.json", {token: str(i) for i, token in enumerate(LETTERS)})
    assert "expected a number" in error_of(folder)
    write_json(folder / "vocab.json", ["a"])
    assert "list" in error_of(folder)
    (folder / "vocab.json").write_text("{")
    assert "vocab.json" in error_of(folder)
    (folder / "vocab.json").unlink()
    assert "vocab.json" in error_of(folder)


def test_added_tokens_without_a_row_are_ignored(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    added = {"<s>": 31, "</s>": 40}  # the second has no row in the head
    letters = [t for t in LETTERS if t not in added] + ["-"]
    write_about(folder, {t: i for i, t in enumerate(letters)})
    write_json(folder / "added_tokens.json", added)
    alphabet = load(folder, "base", "d" * 64).network.alphabet
    assert alphabet.written[31] == ""
    assert alphabet.written[30] == "-"


def test_phoneme_vocabularies_are_rejected(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    write_about(folder, tokenizer_class="Wav2Vec2PhonemeCTCTokenizer")
    assert "phonemes" in error_of(folder)


def test_a_mismatched_preprocessor_is_rejected(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    write_json(folder / "preprocessor_config.json", {"feature_size": 80})
    assert "80" in error_of(folder)


def test_the_processor_config_of_newer_folders_is_read(make_folder: Make) -> None:
    folder = make_folder("xls-r")
    (folder / "preprocessor_config.json").unlink()
    processor_config = {"feature_extractor": {"do_normalize": False, "sampling_rate": 8000}}
    write_json(folder / "processor_config.json", processor_config)
    recogniser = load(folder, "base", "d" * 64)
    assert not recogniser.feature_extractor.normalise
    assert recogniser.spec.sample_rate_hz == 8000


def test_languages_of_mms_have_their_own_adapter_alphabet_and_digest(mms: Path) -> None:
    import transformers

    english, italian = load(mms, "mms", "d" * 64), load(mms, "mms", "d" * 64, "it")
    assert (english.spec.languages, italian.spec.languages) == (("en",), ("it",))
    assert len({english.spec.digest, italian.spec.digest, "d" * 64}) == 3
    assert (english.writable("È là, bad"), italian.writable("È là, bad")) == ("bad", "è bad")
    assert load(mms, "mms", "d" * 64, "ita").spec == italian.spec
    samples = speech(1.0)
    for code, recogniser in (("eng", english), ("ita", italian)):
        theirs = transformers.Wav2Vec2ForCTC.from_pretrained(
            mms, target_lang=code, ignore_mismatched_sizes=True
        ).eval()
        with torch.no_grad():
            expected = theirs(recogniser.feature_extractor.inputs(samples)[None]).logits.log_softmax(dim=2)[0]
            ((_, log_probs, _),) = recogniser._batches([samples])
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


def test_languages_that_mms_lacks_are_rejected(mms: Path) -> None:
    assert "language 'sv': not one of the 2 that this base knows; expected one of eng, ita" in error_of(
        mms, "sv"
    )
    write_json(mms / "tokenizer_config.json", {"target_lang": "deu"})
    assert "eng, ita" in error_of(mms)
    for file in mms.glob("adapter.*"):
        file.unlink()
    assert "adapter.LANGUAGE.safetensors" in error_of(mms, "en")


def test_mismatched_adapters_are_rejected(mms: Path) -> None:
    file = mms / "adapter.ita.safetensors"
    values = load_file(file)
    save_file({n: v for n, v in values.items() if "layers.0" not in n}, file)
    assert "adapter" in error_of(mms, "it")
    file.write_bytes(file.read_bytes()[:-10])
    assert "adapter.ita.safetensors" in error_of(mms, "it")
