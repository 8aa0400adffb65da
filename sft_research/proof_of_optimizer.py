"""The optimizer that steps holds the settings of the config, for every weight that is trained and no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sft_research.config import ConfigError


def settings(trainer: Any, optimizer: Any, config: Mapping[str, Any]) -> str:
    """Each key of the config is what the groups hold; weight decay is on the weights that decay alone.

    transformers regroups parameters on its way to the optimizer and drops what it does not know.
    """
    wanted = {"weight_decay": 0.0} | {key: value for key, value in config.items() if key[0] != "_"}
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    decaying = set(trainer.get_decay_parameter_names(trainer.model))
    held = [(group, id(parameter)) for group in optimizer.param_groups for parameter in group["params"]]
    for group, parameter in held:
        name = names.get(parameter, "a weight of another model")
        for key, value in wanted.items():
            _require(group, key, 0.0 if key == "weight_decay" and name not in decaying else value, name)
    trained = {id(p) for p in trainer.model.parameters() if p.requires_grad}
    if sorted(parameter for _, parameter in held) != sorted(trained):
        reached = len(trained & {parameter for _, parameter in held})
        raise ConfigError(
            f"the optimizer holds {len(held)} parameters, {reached} of the {len(trained)} that are trained. "
            "Fix: optimizer=adamw, or another option of the group"
        )
    rate, decay = wanted.get("lr", "its own"), wanted["weight_decay"]
    return f"holds {len(held)} parameters, learning rate {rate}, weight decay {decay}"


def _require(group: Mapping[str, Any], key: str, wanted: Any, name: str) -> None:
    # A scheduler has moved lr by now, and kept what it was.
    found = group.get("initial_lr", group.get("lr")) if key == "lr" else group.get(key)
    if found is None and (key not in ("lr", "weight_decay") or not wanted):
        return  # an argument that is no setting of a group, or a decay of nothing
    plain = list(found) if isinstance(found, tuple) else found
    if plain != wanted:
        raise ConfigError(
            f"optimizer.{key}={wanted}, but the optimizer holds {plain} for {name}. "
            f"Fix: optimizer._target_=... of one that keeps it, or optimizer.{key}={plain}"
        )
