"""The domain of pictures, as a type: what a judge was trained on, what a set of videos shows, and whether the one may judge the other.

A checkpoint carries its domain as text (``experts.judge.pack``); here it becomes a :class:`Domain`, and a judge whose domain does not cover
the pictures is refused. Whoever wants its numbers all the same has to say so, and then a warning travels with every one of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flowvqtalker.experts import judge
from flowvqtalker.experts.judge import DomainError

#: What a part of a domain may be: the embedded rendered corpus, or one named folder of videos.
_PART = re.compile(r"clay|[a-z_]+:[^+:]+")


@dataclass(frozen=True)
class Domain:
    """A set of kinds of pictures.

    Attributes:
        parts: ``clay`` (rendered by this project), or ``folder:<name>``.
    """

    parts: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Domain:
        """From text such as ``clay`` or ``clay+folder:mead``.

        Raises:
            ValueError: not a domain; the message says what one looks like.
        """
        parts = frozenset(text.split("+"))
        bad = sorted(part for part in parts if not _PART.fullmatch(part))
        if bad:
            raise ValueError(f"domain: expected 'clay' or 'folder:<name>', joined by '+', got '{text}'")
        return cls(parts)

    def covers(self, pictures: Domain) -> bool:
        """Whether a judge trained here has seen every kind of ``pictures``."""
        return pictures.parts <= self.parts

    def __str__(self) -> str:
        return "+".join(sorted(self.parts))


def admit(content: dict[str, Any], kind: str, pictures: Domain, *, allow_other: bool = False) -> tuple[Any, str]:
    """A packed judge for some pictures, or a refusal.

    Args:
        content: what ``experts.judge.pack`` made.
        kind: ``syncnet``, ``emotion`` or ``features``.
        pictures: domain of what is to be judged.
        allow_other: the user's explicit wish to be judged by a judge of another domain.

    Returns:
        The network in eval mode, and a warning to print beside its numbers ("" when its domain covers the pictures).

    Raises:
        DomainError: another domain, and it was not asked for.
        ValueError: a judge of another kind, or a checkpoint without a domain.
    """
    own = Domain.parse(str(content.get("domain", "")))
    network = judge.load(content, kind, str(content["domain"]))
    if own.covers(pictures):
        return network, ""
    if not allow_other:
        raise DomainError(f"judge '{kind}' was trained on '{own}' and says nothing about '{pictures}'; train judges on this corpus")
    return (
        network,
        f"judge '{kind}' was trained on '{own}', not on '{pictures}': its numbers are not to be trusted and never to be published",
    )
