#!/usr/bin/python3
"""Convert weights between HDF5 and PyTorch: convert_weights.py FROM TO.

The endings say which way: .h5 is what hsgd-dist reads (model.init) and writes (weights.h5, checkpoints), .pt or .pth
a PyTorch state dict, .npz the same names for NumPy alone.  In a state dict convolutions stand in a sequence each
(`conv1.0.weight`), linear layers under their own names (`linear1.weight`, `out.weight`); on reading, `conv1.weight`
is understood too.  Needs h5py and numpy; PyTorch for .pt only.
"""
import argparse
import re
import sys
from pathlib import Path

import h5py
import numpy as np

LAYER = re.compile(r"(conv\d+|linear\d+|out)(?:\.0)?\.(weight|bias)")


def place(key):
    """Sorts (layer, part) as the network does: convolutions, linear layers, out; weight before bias."""
    layer, part = key
    kind = layer.rstrip("0123456789")
    return ("conv", "linear", "out").index(kind), int(layer[len(kind):] or 0), part == "bias"


class Unusable(Exception):
    """A file that cannot be converted, with the reason."""


def torch_module():
    try:
        import torch
    except ImportError:
        raise Unusable("PyTorch is not installed; install python3-torch, or convert to .npz") from None
    return torch


def read_hdf5(path):
    weights = {}
    with h5py.File(path, "r") as file:
        if "params" not in file:
            raise Unusable(f"{path} holds no group /params; it is no weights file")
        for layer, group in file["params"].items():
            if LAYER.fullmatch(f"{layer}.weight") is None:
                raise Unusable(f"{path}: /params/{layer} names no layer; conv1, linear1, out ... do")
            for part in ("weight", "bias"):
                if part not in group:
                    raise Unusable(f"{path}: /params/{layer}/{part} is missing")
                weights[layer, part] = group[part][()]
    return weights


def read_state_dict(path):
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            state = dict(file)
    else:
        torch = torch_module()
        state = torch.load(path, map_location="cpu")
        if not all(torch.is_tensor(value) for value in getattr(state, "values", list)()) or not state:
            raise Unusable(f"{path} holds no state dict; save model.state_dict()")
        state = {name: value.detach().numpy() for name, value in state.items()}
    weights = {}
    for name, value in state.items():
        match = LAYER.fullmatch(name)
        if match is None:
            raise Unusable(f"{path}: '{name}' names no layer; conv1.0.weight, linear1.bias, out.weight ... do")
        weights[match.groups()] = value
    return weights


def check(weights, path):
    """Every layer has a weight of the right number of dimensions and a bias that fits; no value is NaN or infinite."""
    for layer in sorted({layer for layer, _ in weights}):
        for part in ("weight", "bias"):
            if (layer, part) not in weights:
                raise Unusable(f"{path}: the {part} of {layer} is missing")
            if not np.isfinite(weights[layer, part]).all():
                raise Unusable(f"{path}: the {part} of {layer} holds NaN or infinite values")
        weight, bias = weights[layer, "weight"], weights[layer, "bias"]
        dimensions = 4 if layer.startswith("conv") else 2
        if weight.ndim != dimensions or bias.shape != weight.shape[:1]:
            raise Unusable(f"{path}: {layer} has a weight of shape {weight.shape} and a bias of shape {bias.shape}; "
                           f"a weight of {dimensions} dimensions and one bias for each of its rows are needed")
    if ("out", "weight") not in weights:
        raise Unusable(f"{path}: the last layer, out, is missing")


def write_hdf5(path, weights):
    with h5py.File(path, "w") as file:
        for (layer, part), value in weights.items():
            dataset = file.create_dataset(f"params/{layer}/{part}", data=value)
            dataset.attrs["units"] = "1"
            dataset.attrs["description"] = f"{part} of layer {layer}"


def write_state_dict(path, weights):
    order = sorted(weights, key=place)
    state = {f"{layer}.0.{part}" if layer.startswith("conv") else f"{layer}.{part}": weights[layer, part]
             for layer, part in order}
    if path.suffix == ".npz":
        np.savez(path, **state)
        return
    torch = torch_module()
    torch.save({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()}, path)


FORMATS = {ending: (read_hdf5, write_hdf5) for ending in (".h5", ".hdf5")}
FORMATS |= {ending: (read_state_dict, write_state_dict) for ending in (".pt", ".pth", ".npz")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="FROM")
    parser.add_argument("target", type=Path, metavar="TO")
    words = parser.parse_args()
    try:
        for path in (words.source, words.target):
            if path.suffix not in FORMATS:
                raise Unusable(f"{path}: the ending must be one of {' '.join(FORMATS)}")
        weights = FORMATS[words.source.suffix][0](words.source)
        check(weights, words.source)
        FORMATS[words.target.suffix][1](words.target, weights)
    except (Unusable, OSError) as failure:
        sys.exit(f"convert_weights.py: error: {failure}")
    count = sum(value.size for value in weights.values())
    print(f"{words.target}: {count} parameters in {len(weights) // 2} layers")


if __name__ == "__main__":
    main()
