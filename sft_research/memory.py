"""What a run holds at its peak, in GiB and by part, estimated before any weights are loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import inf

from omegaconf import DictConfig

from sft_research import hardware
from sft_research.config import build
from sft_research.lora import Lora
from sft_research.loss import LOGIT_BYTES

GIB = 2**30
CUDA_CONTEXT = 0.6  # GiB that a process on a GPU takes before its first tensor
CHUNK = 256  # tokens of TRL's chunked loss; their logits, log-probabilities, entropies and gradient are alive at once
COPIES = 4
# Of all that a forward pass allocates and gives back: the share that glibc cannot use again, since what is kept lies
# between. It was found with benchmarks/memory.py; a GPU's allocator has blocks of its own for large tensors.
HOLES = 0.25
# Bytes of state a weight that is trained, by the class of the optimizer.
STATE = {
    "AdamW8bit": 2,
    "PagedAdamW8bit": 2,
    "Adam8bit": 2,
    "Lion": 4,
    "Lion8bit": 1,
    "Muon": 4,
    "RMSprop": 4,
}
ADAM = 8


@dataclass(frozen=True)
class Batch:
    """The largest batch of a run: rows of `tokens`, padding counted. `accumulation`: batches a step."""

    rows: int
    tokens: int
    accumulation: int = 1


@dataclass(frozen=True)
class Memory:
    """GiB. A run evaluates between its steps: of activations with logits, and evaluation, the larger is held."""

    process: float  # Python and its libraries; on a GPU its context
    weights: float
    adapters: float
    gradients: float
    optimizer: float
    holes: float  # freed memory that the allocator cannot give again
    activations: float
    logits: float
    evaluation: float

    @property
    def parts(self) -> dict[str, float]:
        return asdict(self)

    @property
    def total(self) -> float:
        training = self.activations + self.logits
        return sum(self.parts.values()) - training - self.evaluation + max(training, self.evaluation)


def estimate(cfg: DictConfig, batch: Batch) -> Memory:
    """Of this run on this machine. Raises what transformers raises for a model that it does not know."""
    import torch
    from transformers import AutoConfig

    from sft_research.footprint import measure

    model, adapter = build(cfg.model), build(cfg.lora)
    config = AutoConfig.from_pretrained(model.source, revision=model.revision, trust_remote_code=False)
    lora = isinstance(adapter, Lora)
    dtype = model.torch_dtype(not lora)
    how = {"four_bits": model.load_in_4bit, "checkpointing": _checkpointing(cfg)}
    step = measure(config, adapter, batch.rows, batch.tokens, dtype, **how)
    width = 4 if lora else dtype.itemsize  # PEFT keeps adapters in float32
    trained = step.trained * width
    vocabulary = config.vocab_size
    chunked = min(CHUNK, batch.rows * batch.tokens)
    rows = min(cfg.evaluation.batch_size, max(1, LOGIT_BYTES // (4 * vocabulary * batch.tokens)))
    evaluated = cfg.dataset.get("held_out", 1) not in (0, 0.0)
    forward, held = step.forward + step.workspace, trained
    if batch.accumulation == 1:  # then gradients come while activations go
        forward, held = max(step.forward, trained) - trained + step.workspace, trained
    return Memory(
        process=CUDA_CONTEXT if torch.cuda.is_available() else hardware.memory_now_gib(),
        weights=step.weights / GIB,
        adapters=trained / GIB if lora else 0.0,
        gradients=held / GIB,
        optimizer=step.trained * _state(cfg.optimizer) / GIB,
        holes=0.0 if torch.cuda.is_available() else HOLES * step.freed / GIB,
        activations=forward / GIB,
        logits=chunked * vocabulary * 4 * COPIES / GIB,
        evaluation=2 * rows * batch.tokens * vocabulary * 4 / GIB if evaluated else 0.0,
    )


def batch_size(cfg: DictConfig) -> tuple[int, int]:
    """Rows a batch and batches a step, TRL's own defaults where not said."""
    training = cfg.training
    return training.get("per_device_train_batch_size", 8), training.get("gradient_accumulation_steps", 1)


def roughly(cfg: DictConfig, batch: Batch) -> float:
    """GiB by rules of thumb and from above, in no time: more than `estimate` says of a decoder."""
    from transformers import PretrainedConfig

    model = build(cfg.model)
    config, _ = PretrainedConfig.get_config_dict(model.source, revision=model.revision)
    if "hidden_size" not in config:
        return inf  # another kind of model
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    inner, vocabulary = config.get("intermediate_size", 4 * width), config["vocab_size"]
    weights = layers * (4 * width * width + 3 * width * inner) + 2 * vocabulary * width
    positions = batch.rows * batch.tokens
    activations = positions * layers * (20 * width + 6 * inner) + positions * vocabulary
    held = weights * (4 if "r" in cfg.lora else 16)
    return (held + 4 * activations + 2 * LOGIT_BYTES) / GIB + 1.5


def _checkpointing(cfg: DictConfig) -> bool:
    import torch

    asked = cfg.backend.get("gradient_checkpointing", "auto")
    return torch.cuda.is_available() if asked == "auto" else bool(asked)


def _state(optimizer: DictConfig) -> float:
    name = optimizer._target_.rpartition(".")[2]
    if name == "SGD":
        return 4 if optimizer.get("momentum") else 0
    return STATE.get(name, ADAM)
