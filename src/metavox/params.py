"""`params.yaml` as one frozen, validated value; unknown keys and values out of bounds are errors."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from metavox.config import EncoderConfig, FeatureConfig, FrontEndConfig
from metavox.errors import UserError
from metavox.old_names import current_params

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0.0)]
Precision = Literal["float32", "bfloat16"]
Objective = Literal["masked", "apc", "bestrq"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Prepare(_Section):
    workers: Count = 2


class Validate(_Section):
    """Limits of the quality gate. Recordings beyond them are quarantined; faults of the whole set stop the pipeline."""

    min_duration_s: Seconds = 0.1
    max_duration_s: Seconds = 20.0
    min_bandwidth_hz: Annotated[float, Field(ge=0)] = 800.0
    max_silence: Share = 0.97
    max_clipping: Share = 0.05
    max_dc_offset: Share = 0.15
    min_snr_db: float = 0.0
    max_chars_per_s: Annotated[float, Field(gt=0)] = 25.0
    max_quarantined: Share = 0.2
    min_test_speakers: Count = 2
    min_language_speakers: Count = 1  # below 2 gives a warning in any case
    max_label_share: Annotated[float, Field(gt=0.5, le=1.0)] = 0.7  # of a set of clips; gives a warning only
    max_drift: Annotated[float, Field(gt=0)] = 0.2  # KL divergence in nats, corrected for the sample size


class Augment(_Section):
    """The environment GAN."""

    steps: Count = 300
    batch: Count = 32
    crop_frames: Annotated[int, Field(ge=32, le=512)] = 128
    latent: Annotated[int, Field(ge=1, le=128)] = 16
    learning_rate: Rate = 0.001
    gradient_penalty: Annotated[float, Field(ge=0)] = 20.0
    samples: Annotated[int, Field(ge=1, le=20)] = 4


class Pretrain(_Section):
    """Self-supervised training on speech without text, from the prepared store or the corpus at the URL `stream`."""

    objective: Objective = "masked"
    stream: str = ""
    window_shards: Count = 4  # shards of a stream that are mixed at a time; twice as many are in memory
    steps: Count = 120
    batch_s: Seconds = 60.0
    learning_rate: Rate = 0.001
    mask_time: Share = 0.3
    mask_frequency: Share = 0.3
    precision: Precision = "float32"
    checkpoint_every: Count = 50


class MetaTrain(_Section):
    """A shared joint warm-up, then two arms of equal budget: joint training and the meta-learner."""

    precision: Precision = "float32"
    start: str = ""  # name or folder of a conformer to continue from; empty: the pretrained encoder
    warmup_steps: Count = 500
    arm_steps: Count = 80
    batch_s: Seconds = 90.0
    utterance_share: Share = 0.4
    classifier_weight: Share = 1.0  # of the softmax over all training words
    contrastive_weight: Annotated[float, Field(ge=0)] = 0.0  # of matching the two clips of a word in a batch
    max_word_s: Annotated[float, Field(ge=0.5, le=10.0)] = (
        3.0  # longer clips contain pauses, and are left out
    )
    word_margin_s: Annotated[float, Field(ge=0.0, le=0.5)] = (
        0.0  # kept around a word at enrolment and recognition
    )
    recorded_oversampling: Count = 1  # how much more often a recorded word is drawn than a synthetic one
    learning_rate: Rate = 0.003
    arm_learning_rate: Rate = 0.1
    learner: Literal["protonet", "reptile", "fomaml", "maml", "anil", "metasgd"] = "fomaml"
    tasks: Count = 1  # per step
    kind: Literal["words", "utterances"] = "words"
    way: Annotated[int, Field(ge=2, le=100)] = 20
    shot: Count = 2  # support clips per word, or per task of utterances
    queries: Count = 2  # query clips per word, or per task of utterances
    unknown: Annotated[int, Field(ge=0)] = 0  # query words that the support does not teach
    background: Annotated[int, Field(ge=0)] = 0  # query clips without speech
    pairing: Literal["any", "cross-speaker", "same-speaker"] = "any"  # speakers of queries in a task of words
    mix_languages: bool = True  # within a task of words; one language alone is harder
    # Columns on which all utterances of a task agree.
    task_by: tuple[Literal["speaker", "language", "environment"], ...] = ("speaker",)
    conditions_per_task: Count = 1  # values of these columns in a task of utterances
    room: Literal["recorded", "simulated", "generated"] = "recorded"  # the last two give each task one room
    reversed_words: Share = 0.0  # share of a task's words that are played backwards
    curriculum: Share = 0.0  # share of the steps over which tasks become harder
    statistics: Literal["running", "batch"] = "running"  # of batch normalisation in tasks
    inner_steps: Count = 2
    inner_learning_rate: Rate = 0.05
    environment_share: Share = 0.0
    environment: str = "artifacts/environments"  # or a folder from `metavox augment learn`
    cohort_size: Annotated[int, Field(ge=0)] = 2000  # clips stored for score normalisation; 0: no cohort
    checkpoint_every: Count = 100


class Foundation(_Section):
    """What is trained for a foundation base: its short-context adapter and the meta-learned start of adapters.

    With 0 short-context steps, the base keeps its own short-context adapter, if it has one. `start` is learned on tasks
    of training speakers; it is kept if development speakers, each adapted with `start_shots` recordings, have fewer word
    errors than with adapters that start from zero.
    """

    short_context_lessons: Count = 2400
    short_context_steps: Annotated[int, Field(ge=0)] = 0
    start: Literal["none", "joint", "reptile", "fomaml", "maml", "metasgd"] = "none"
    start_steps: Count = 100
    start_shots: Count = 5
    start_inner_steps: Count = 3
    start_learning_rate: Rate = 0.001


class Adapt(_Section):
    """Few-shot adaptation to each held-out speaker.

    Null values are those of the base's recipe; with `folds` above 1, cross-validation chooses among its recipes.
    """

    shots: Count = 20
    steps: Count | None = None
    learning_rate: Rate | None = None
    folds: Annotated[int, Field(ge=0, le=20)] = 0
    max_speakers: Count = 6


class Evaluate(_Section):
    way: Annotated[int, Field(ge=2, le=100)] = 10
    shots: tuple[Count, ...] = (1, 5)
    queries: Count = 2
    unknown: Annotated[int, Field(ge=0)] = 5  # maximum number of query words that an episode does not teach
    episodes: Annotated[int, Field(ge=10)] = 600
    utterances: Count = 40
    min_accuracy: Share = 0.5


class Ablation(_Section):
    """The experiment of `experiments/dvc.yaml`: each arm and seed trains for `steps` on words alone."""

    steps: Count = 300
    batch_s: Seconds = 50.0
    episodes: Annotated[int, Field(ge=10)] = 600


class Package(_Section):
    """`deltas` names the held-out speakers whose deltas the bundle contains."""

    deltas: tuple[str, ...] = ()
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")] = "metavox"


class Params(_Section):
    seed: Annotated[int, Field(ge=0)] = 17
    base: Annotated[str, Field(min_length=1)] = (
        "conformer"  # name or folder of the base model that transcribes
    )
    features: FeatureConfig = FeatureConfig()
    frontend: FrontEndConfig = FrontEndConfig()
    encoder: EncoderConfig = EncoderConfig()
    prepare: Prepare = Prepare()
    validate_: Validate = Field(default=Validate(), alias="validate")
    augment: Augment = Augment()
    pretrain: Pretrain = Pretrain()
    metatrain: MetaTrain = MetaTrain()
    foundation: Foundation = Foundation()
    adapt: Adapt = Adapt()
    evaluate: Evaluate = Evaluate()
    package: Package = Package()
    ablation: Ablation = Ablation()

    @model_validator(mode="after")
    def _fits(self) -> "Params":
        needed = {"bundle": "waveform", "whisper": "whisper"}.get(self.encoder.kind, "mel")
        samples = self.features.kind == "waveform"
        if self.features.kind != needed:
            raise ValueError(
                f"encoder.kind = {self.encoder.kind} with features.kind = {self.features.kind}: bundle takes waveform, "
                "whisper takes whisper, the others take mel"
            )
        if self.encoder.kind == "whisper" and self.base == "conformer":
            raise ValueError(
                "base = conformer with encoder.kind = whisper: the encoder is that of the base; set base to a Whisper "
                "model, such as whisper-tiny.en"
            )
        for stream in sorted(
            {"prosody", "formants"} & set(self.frontend.streams) - set(self.features.extras)
        ):
            raise ValueError(f"frontend.streams: {stream} is not stored; add it to features.extras")
        generated = bool(self.metatrain.environment_share) or self.metatrain.room == "generated"
        if self.features.kind != "mel" and generated:
            raise ValueError(
                "metatrain.environment_share and room = generated: environments apply to log-mels; set them to 0 and recorded "
                f"for features.kind {self.features.kind}"
            )
        if samples and (self.metatrain.room != "recorded" or self.metatrain.reversed_words):
            raise ValueError(
                "metatrain.room and reversed_words apply to log-mels; set them to recorded and 0 for features.kind waveform"
            )
        if self.metatrain.kind == "utterances" and self.metatrain.learner == "protonet":
            raise ValueError(
                "metatrain.learner = protonet needs words, because utterances have no classes; choose another learner"
            )
        return self


def load_params(path: Path | str = "params.yaml", complete: bool = False) -> Params:
    """Read and validate `params.yaml`; with `complete`, every key must be present.

    Raises UserError with one line that names the first wrong key, its value and what is allowed, or the first missing key
    and its default.
    """
    values = read_values(Path(path))
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {_first_line(error)}") from error
    missing = missing_keys(values, params)
    if complete and missing:
        key, default = next(iter(missing.items()))
        more = f" (and {len(missing) - 1} more keys)" if len(missing) > 1 else ""
        raise UserError(
            f"{path}: {key} is missing{more}; its default is {yaml_value(default)}. A stage needs every key, because DVC "
            f"tracks only what the file says: `python tools/complete_params.py {path}` adds them"
        )
    return params


def read_values(path: Path) -> dict[str, Any]:
    """The contents of a parameter file under current names. Raises UserError for a file that has no sections."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; run in the project's folder, where params.yaml is")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(
            f"{path}: got a {type(values).__name__}; expected sections such as 'seed:' and 'prepare:'"
        )
    return current_params(values)


def missing_keys(values: Mapping[str, Any], params: Params) -> dict[str, object]:
    """The keys that a file with these `values` lacks, such as `metatrain.tasks`, each with its default."""
    missing: dict[str, object] = {}
    for key, default in params.model_dump(mode="json", by_alias=True).items():
        if isinstance(default, dict):
            section = values.get(key) or {}
            missing |= {f"{key}.{name}": value for name, value in default.items() if name not in section}
        elif key not in values:
            missing[key] = default
    return missing


def yaml_value(value: object) -> str:
    """A value as one line of YAML."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()


def _first_line(error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        allowed = ", ".join(_keys(first["loc"][:-1]))
        return f"unknown key {key}; allowed here: {allowed}{more}"
    if first["type"] == "value_error" and isinstance(first["input"], dict):  # the message names the keys
        section = f"{key}." if key else ""
        return f"{section}{first['msg'].removeprefix('Value error, ')}{more}"
    if not key:
        return f"{first['msg'].removeprefix('Value error, ')}{more}"
    return f"{key} = {first['input']!r}: {first['msg'].lower()}{more}"


def _keys(section: tuple[int | str, ...]) -> list[str]:
    """The keys that a section allows."""
    kind: Any = Params
    for part in section:
        name = next(n for n, info in kind.model_fields.items() if part in (n, info.alias))
        kind = kind.model_fields[name].annotation
    if is_dataclass(kind):
        return [key.name for key in fields(kind)]
    return [info.alias or name for name, info in kind.model_fields.items()]
