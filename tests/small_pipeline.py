"""Parameters of a pipeline that runs in seconds, and a project after its earlier stages."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from safetensors.torch import save_file

from metavox.config import FeatureConfig
from metavox.dataset.store import ABOUT, FEATURES, Store
from metavox.params import Params
from metavox.recognisers.conformer.artifact import save_model
from metavox.recognisers.conformer.encoders import make_encoder
from metavox.recognisers.conformer.network import Network

PARAMS = Params.model_validate(
    {
        "features": {"mels": 16},
        "encoder": {"channels": 8, "dim": 16, "layers": 1, "heads": 2, "embedding": 16},
        "metatrain": {"warmup_steps": 6, "arm_steps": 5, "batch_s": 3.0, "way": 2, "shot": 1, "queries": 1},
        "adapt": {"shots": 3, "steps": 2, "max_speakers": 2},
        "evaluate": {
            "way": 3,
            "shots": [1, 2, 30],
            "queries": 1,
            "unknown": 2,
            "episodes": 15,
            "utterances": 5,
            "min_accuracy": 0.0,
        },
    }
)


@pytest.fixture
def project(tmp_path: Path, make_store: Callable[..., Store], make_model: Callable[..., Network]) -> Path:
    """Prepared speech of three speakers, one per split, and the artifacts of pretraining and meta-training."""
    words = tuple(f"{a}{b}" for a in "abcd" for b in "efgh")
    store = make_store(words, sentences=60)
    root = tmp_path / "project"
    prepared, validated = root / "artifacts/prepared", root / "artifacts/validated"
    for folder in (prepared, validated, root / "artifacts/encoder"):
        folder.mkdir(parents=True)
    (prepared / FEATURES).write_bytes((store.folder / FEATURES).read_bytes())
    (prepared / ABOUT).write_text(json.dumps(asdict(FeatureConfig(mels=16))))
    split = {"speaker-0": "train", "speaker-1": "dev", "speaker-2": "test"}
    rows = store.rows.assign(split=store.rows["speaker"].map(split))
    # Words that a development speaker says are not trained on.
    rows = rows[~((rows["split"] == "dev") & rows["text"].isin(words[8:]))].reset_index(drop=True)
    rows.to_parquet(validated / "manifest.parquet", index=False)
    rows.to_parquet(prepared / "manifest.parquet", index=False)
    encoder = make_encoder(PARAMS.encoder, PARAMS.frontend, FeatureConfig(mels=16))
    save_file(encoder.state_dict(), root / "artifacts/encoder/encoder.safetensors")
    save_model(make_model(), root / "artifacts/recogniser", "# untrained\n")
    return root
