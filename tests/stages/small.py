"""Parameters of a pipeline of seconds."""

from metavox.params import Params

PARAMS = Params.model_validate(
    {
        "features": {"mels": 16},
        "encoder": {"channels": 8, "dim": 16, "layers": 1, "heads": 2, "embedding": 16},
        "metatrain": {"warmup_steps": 6, "arm_steps": 5, "batch_s": 3.0, "way": 2, "shot": 1, "queries": 1},
        "adapt": {"shots": 3, "steps": 2, "max_voices": 2},
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
