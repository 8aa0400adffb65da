"""Bytes that a training step of a model holds, found without the weights: its operators are run on fake tensors.

    measure(config, adapter, ...)  ->  Step(weights, trained, peak of one forward and backward pass)
Fake tensors have a shape and a device and no memory. A model of one layer and one of two are run, and what
the second layer adds is what each further one does.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from sft_research.lora import FullFineTuning, Lora

FOUR_BITS = 0.516  # bytes a weight in NF4, its doubly quantised scales with it (Dettmers et al. 2023)


@dataclass(frozen=True)
class Step:
    """Bytes, but for `trained`: numbers. What the forward pass leaves for the backward one grows with the layers;
    the workspace is what the widest moment of the backward pass takes beside it, and `freed` is all that the
    forward pass allocates and gives back."""

    weights: float
    trained: float
    forward: float
    workspace: float
    freed: float

    def deeper(self, two: Step, layers: int) -> Step:
        """This of one layer and `two` of two: a model of `layers`."""
        one, more = self, layers - 1
        return Step(
            one.weights + more * (two.weights - one.weights),
            one.trained + more * (two.trained - one.trained),
            one.forward + more * (two.forward - one.forward),
            two.workspace,
            one.freed + more * (two.freed - one.freed),
        )


def measure(
    config: Any, adapter: Lora | FullFineTuning, rows: int, tokens: int, dtype: torch.dtype, **how: bool
) -> Step:
    """Of a model with this transformers config, in a batch of `rows` x `tokens`.

    `how`: `four_bits` and `checkpointing`, both false where not said. Nothing of the size of the model is
    allocated, and a model of any depth takes as long as one of three layers.
    """
    one, two = (_measure(_of_layers(config, n), adapter, rows, tokens, dtype, **how) for n in (1, 2))
    return one.deeper(two, int(config.num_hidden_layers))


def _of_layers(config: Any, number: int) -> Any:
    small = copy.deepcopy(config)
    if isinstance(getattr(small, "layer_types", None), list):
        small.layer_types = small.layer_types[:number]
    small.num_hidden_layers = number
    return small


def _measure(
    config: Any,
    adapter: Lora | FullFineTuning,
    rows: int,
    tokens: int,
    dtype: torch.dtype,
    four_bits: bool = False,
    checkpointing: bool = False,
) -> Step:
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
        model.config.use_cache = False
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        weights = float(sum(p.numel() * p.element_size() for p in model.parameters()))
        if four_bits:
            linear = [
                m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "lm_head" not in n
            ]
            weights += sum(m.weight.numel() * (FOUR_BITS - m.weight.element_size()) for m in linear)
        base = model
        if isinstance(adapter, Lora):
            model = get_peft_model(model, adapter.peft_config({}))
    model.train()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    mode = FakeTensorMode()
    _make_fake(model, mode, device)
    with mode, _alive() as alive:
        ids = torch.zeros((rows, tokens), dtype=torch.long, device=device)
        hidden = base.base_model(input_ids=ids, use_cache=False).last_hidden_state
        forward, freed = alive.now, alive.made - alive.now
        hidden.sum().backward()
    gradients = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    # Of a model that is trained whole the gradients come while the activations go.
    return Step(weights, trained, forward, max(0, alive.peak - max(forward, gradients)), freed)


def _make_fake(model: Any, mode: FakeTensorMode, device: torch.device) -> None:
    """In place; a weight that two modules share stays one."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    fake: Any = FakeTensor(mode, tensor.detach(), device)
                    if isinstance(tensor, torch.nn.Parameter):
                        fake = torch.nn.Parameter(fake, requires_grad=tensor.requires_grad)
                    made[id(tensor)] = fake
                held[name] = made[id(tensor)]


class _Alive(TorchDispatchMode):
    """Counts the storages that operators make, and forgets those that are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.made = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {t.untyped_storage()._cdata for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)}
        out = func(*args, **kwargs or {})
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in given | self.known:
                    self._count(storage)
        return out

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.known.add(key)
        self.now += size
        self.made += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


@contextmanager
def _alive() -> Iterator[_Alive]:
    with _Alive() as alive:
        yield alive
