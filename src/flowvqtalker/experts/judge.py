"""A judge as it lies in a file: weights, sizes, and the domain it was trained on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from flowvqtalker.experts.emotion import EmotionNet
from flowvqtalker.experts.features import FeatureNet
from flowvqtalker.experts.syncnet import SyncNet

KINDS: dict[str, type[nn.Module]] = {"syncnet": SyncNet, "emotion": EmotionNet, "features": FeatureNet}


class DomainError(RuntimeError):
    """A judge was asked about pictures of a domain that it was not trained on."""


def domain_of(sources: Iterable[Any]) -> str:
    """Name of a domain: what the pictures of a corpus look like.

    Args:
        sources: Corpus sources with ``adapter`` and ``name``. Embedded corpora are rendered with the clay head; every folder of videos is a domain of its own.

    Returns:
        e.g. ``clay`` or ``folder:mead``, joined by "+" in alphabetical order.
    """
    return "+".join(sorted({"clay" if source.adapter == "synthetic" else f"{source.adapter}:{source.name}" for source in sources}))


def pack(kind: str, network: nn.Module, sizes: dict[str, Any], domain: str) -> dict[str, Any]:
    """Plain dict of one judge, readable with ``weights_only=True``.

    Args:
        kind: ``syncnet``, ``emotion`` or ``features``.
        network: Trained network.
        sizes: Keyword arguments that made it.
        domain: See :func:`domain_of`.
    """
    return {
        "kind": kind,
        "sizes": sizes,
        "domain": domain,
        "state": {name: value.detach().clone() for name, value in network.state_dict().items()},
    }


def load(content: dict[str, Any], kind: str, domain: str) -> Any:
    """Network of a packed judge in eval mode, without gradients.

    Args:
        content: What :func:`pack` made.
        kind: Expected kind.
        domain: Domain of the pictures to judge.

    Raises:
        DomainError: it was trained on another domain.
        ValueError: it is a judge of another kind.
    """
    if content.get("kind") != kind:
        raise ValueError(f"expected a judge of kind '{kind}', got '{content.get('kind')}'")
    if content["domain"] != domain:
        raise DomainError(
            f"judge '{kind}' was trained on '{content['domain']}' and says nothing about '{domain}'; train judges on this corpus"
        )
    network = KINDS[kind](**content["sizes"])
    network.load_state_dict(content["state"])
    return network.eval().requires_grad_(False)
