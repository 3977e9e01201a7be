"""A Whisper of a few thousand random weights in Hugging Face's format, with a window of 3 s, for English and French.

The weights are large enough for the texts to depend on the audio. Most texts end after a few letters, because the decoder
favours the end token; without that nearly every text would be a loop, which is decoded again at every temperature.
"""

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

STATES = 150  # of the encoder, 20 ms each
LARGER, LARGER_EMBEDDINGS = 40, 12  # factors of the initial weights
FAVOUR_END = 2.5  # added to the logit of the end token


def small_tokenizer(states: int = STATES) -> Tokenizer:
    """Bytes, and Whisper's special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = [
        "endoftext",
        "startoftranscript",
        "en",
        "fr",
        "translate",
        "transcribe",
        "startoflm",
        "startofprev",
        "nospeech",
        "notimestamps",
        *(f"{i * 0.02:.2f}" for i in range(states + 1)),
    ]
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in names])
    return tokenizer


def save_small_whisper(folder: Path, seed: int = 0, states: int = STATES) -> Path:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    tokenizer = small_tokenizer(states)
    end, start = (tokenizer.token_to_id(f"<|{name}|>") for name in ("endoftext", "startoftranscript"))
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_source_positions=states,
        max_target_positions=128,
        num_mel_bins=80,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    network = WhisperForConditionalGeneration(config)
    decoder = network.model.decoder
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim > 1 and "embed_positions" not in name:
                weight.mul_(LARGER_EMBEDDINGS if "embed_tokens" in name else LARGER)
        end_row = torch.randn(config.d_model, generator=torch.Generator().manual_seed(seed))
        end_row *= LARGER_EMBEDDINGS * config.init_std
        decoder.embed_tokens.weight[end] = end_row  # transformers sets the row of the padding to zero
        decoder.layer_norm.bias.add_(FAVOUR_END * end_row / end_row.norm() ** 2)
    network.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
