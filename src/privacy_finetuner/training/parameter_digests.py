"""Digests of trained parameters: whether a model in memory is the one that a run left."""

from __future__ import annotations

import hashlib

import torch


def parameter_digests(model: torch.nn.Module, names: set[str] | None = None) -> dict[str, str]:
    """SHA-256 of each parameter's type, shape and bytes, by name.

    Args:
        model: the model.
        names: which parameters; default: those that are trained (`requires_grad`).
    """
    return {
        name: _digest(parameter)
        for name, parameter in model.named_parameters()
        if (parameter.requires_grad if names is None else name in names)
    }


def _digest(parameter: torch.Tensor) -> str:
    digest = hashlib.sha256(f"{parameter.dtype} {tuple(parameter.shape)}".encode())
    content = parameter.detach().reshape(-1).contiguous().cpu().view(torch.uint8)
    digest.update(content.numpy().data)
    return digest.hexdigest()
