"""What training is made of beside its data, as named tensors: weights, optimizer, average, random generators."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn

from util.ema import Ema
from util.errors import InputError

Named = dict[str, Tensor]


def pack_training(
    module: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None, generators: list[Named]
) -> dict[str, Named]:
    """Everything by kind: "model", "optimizer", "ema" (where there is one), "random" (of each rank)."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    packed = {
        "model": named_tensors(module),
        "optimizer": optimizer_tensors(optimizer, names),
        "random": {f"{rank}/{name}": t for rank, states in enumerate(generators) for name, t in states.items()},
    }
    if ema is not None:
        packed["ema"] = ema.average
    return packed


def unpack_training(
    packed: dict[str, Named], module: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None, source: str
) -> None:
    """Put `pack_training`'s tensors back, but for the generators (see `restore_random`). Raises InputError."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    load_named_tensors(module, packed["model"], source)
    load_optimizer_tensors(optimizer, names, packed["optimizer"])
    if ema is not None:
        if "ema" not in packed:
            raise InputError(f"{source} has no average of weights; set ema_decay to null, as it was trained")
        ema.load(packed["ema"])


def named_tensors(module: nn.Module) -> Named:
    """The state_dict without aliases: a tensor that two modules share appears once, under its first name."""
    first_name: dict[int, str] = {}
    state = module.state_dict(keep_vars=True)
    for name, tensor in state.items():
        first_name.setdefault(id(tensor), name)
    return {name: state[name].detach() for name in first_name.values()}


def load_named_tensors(module: nn.Module, tensors: Named, source: str) -> None:
    """Copy `tensors` into the module, in place and strictly. Raises InputError that lists every differing key."""
    own = named_tensors(module)
    missing, unexpected = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    reshaped = sorted(name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape)
    if missing or unexpected or reshaped:
        raise InputError(
            f"{source} is of another network: missing {missing}, unexpected {unexpected}, other shapes {reshaped}; "
            "use the config it was trained with, or another output_dir"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[nn.Parameter, str]) -> Named:
    """The optimizer's state as "parameter name/key" -> tensor (for AdamW: step, exp_avg, exp_avg_sq)."""
    return {f"{name}/{key}": value for p, name in names.items() for key, value in optimizer.state.get(p, {}).items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[nn.Parameter, str], tensors: Named) -> None:
    """Give the optimizer the state `optimizer_tensors` took. Raises InputError where a parameter is unknown."""
    parameters = {name: parameter for parameter, name in names.items()}
    for key, tensor in tensors.items():
        name, _, entry = key.rpartition("/")
        if name not in parameters:
            raise InputError(f"the checkpoint's optimizer knows {name}, which this config does not train")
        # AdamW keeps its step count on the CPU and moments beside the parameter
        device = tensor.device if entry == "step" else parameters[name].device
        optimizer.state[parameters[name]][entry] = tensor.to(device)


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch (CPU and CUDA)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_tensors(device: torch.device) -> Named:
    """The states of Python's, numpy's and torch's global generators, and of `device`'s where it is CUDA."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    states = {
        "python": torch.tensor([version, *words], dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
        "numpy_position": torch.tensor([position, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random(packed: Named, rank: int, device: torch.device) -> bool:
    """Put the generators of `rank` back to where `random_tensors` found them; False where `packed` has none of it."""
    states = {name.removeprefix(f"{rank}/"): t for name, t in packed.items() if name.startswith(f"{rank}/")}
    if not states:
        return False
    version, *words = states["python"].tolist()
    gauss = states["python_gauss"].tolist()
    random.setstate((version, tuple(words), gauss[0] if gauss else None))
    position, has_gauss = states["numpy_position"].tolist()
    keys = states["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, position, has_gauss, states["numpy_gauss"].item()))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    return True
