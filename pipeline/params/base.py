"""Base of every parameter section: typed, bounded, frozen, no unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Field", "Section"]


class Section(BaseModel):
    """One section of params.yaml. Values live only there; fields have bounds and a description with unit, no defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
