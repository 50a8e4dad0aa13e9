"""Rows of the result table: what drives each method, what draws it, and how a row names a variant of its model.

A row is a method, or ``<method>__<variant>``: the method with that variant of its model in place of the one that ``generate.*_variant``
chooses. The model that varies is the one under study in that method: ExpFlow (or the regression) where motion is made from sound, the image
generator where fitted coefficients are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Method(NamedTuple):
    """What makes a clip.

    Attributes:
        expression: where beta comes from: "real", "still", "fitted", "expflow" or "regression".
        pose: where the head's pose comes from: "real", "still", "fitted" or "poseflow".
        heard: the sound that the model hears: "own", "foreign" (another test sentence), or "" for none.
        drawn: what makes the frames: "vqig", "codebook", "clay" (the renderer of the embedded corpus), or "" for frames that exist.
    """

    expression: str
    pose: str
    heard: str
    drawn: str


METHODS: dict[str, Method] = {
    "ground_truth": Method("real", "real", "", ""),
    "other_take": Method("real", "real", "", ""),
    "codebook_ceiling": Method("real", "real", "", "codebook"),
    "copy_source": Method("still", "still", "", ""),
    "vqig_on_fitted": Method("fitted", "fitted", "", "vqig"),
    "flowvqtalker_paired": Method("expflow", "fitted", "own", "vqig"),
    "flowvqtalker_free": Method("expflow", "poseflow", "own", "vqig"),
    "regression": Method("regression", "fitted", "own", "vqig"),
    "shuffled_audio": Method("expflow", "fitted", "foreign", "vqig"),
    "clay_on_fitted": Method("fitted", "fitted", "", "clay"),
    "clay_paired": Method("expflow", "fitted", "own", "clay"),
    "clay_shuffled": Method("expflow", "fitted", "foreign", "clay"),
    "clay_regression": Method("regression", "fitted", "own", "clay"),
}
#: Models that each word of a method needs.
_NEEDS = {
    "expflow": ("flow",),
    "poseflow": ("flow",),
    "regression": ("regression",),
    "vqig": ("codebook", "imagegen"),
    "codebook": ("codebook",),
}
#: Models that have variants, in the order in which a row's variant is theirs, and their stages.
_VARIED = {"flow": "flow", "regression": "flow", "imagegen": "imagegen"}
_MARK = "__"


def split_row(row: str) -> tuple[str, str]:
    """Method and variant of a row; the variant is "" where the row names none.

    Example:
        >>> split_row("vqig_on_fitted__no_warp"), split_row("regression")
        (('vqig_on_fitted', 'no_warp'), ('regression', ''))
    """
    method, _, variant = row.partition(_MARK)
    return method, variant


def method_of_row(row: str) -> Method:
    """What makes the clips of a row."""
    return METHODS[split_row(row)[0]]


def models_of(row: str) -> tuple[str, ...]:
    """Names of the models that a row needs ("flow", "regression", "imagegen", "codebook"), sorted."""
    return tuple(sorted({model for word in method_of_row(row) for model in _NEEDS.get(word, ())}))


def varied_model(row: str) -> str:
    """The model whose variant a row of this method may name; "" where there is none."""
    needed = models_of(row)
    return next((model for model in _VARIED if model in needed), "")


def variant_stage(row: str) -> str:
    """The stage whose variants a row of this method may name; "" where there is none."""
    return _VARIED.get(varied_model(row), "")


def chosen_variant(generate: Mapping[str, Any], row: str, model: str) -> str:
    """Variant of a model that a row uses: its own, else the one that ``generate.<model>_variant`` chooses.

    Args:
        generate: values of the section ``generate``.
        row: of the result table.
        model: "flow", "regression" or "imagegen".
    """
    variant = split_row(row)[1]
    return variant if variant and varied_model(row) == model else generate[f"{model}_variant"]


def named_variants(rows: tuple[str, ...] | list[str], stage: str) -> set[str]:
    """Variants of a stage that rows name."""
    return {variant for row in rows for variant in split_row(row)[1:] if variant and variant_stage(row) == stage}


def check_row(row: str) -> str:
    """The row, if it is a method or a method with a variant.

    Raises:
        ValueError: no such method, or one whose model has no variants.
    """
    method, variant = split_row(row)
    if method not in METHODS:
        raise ValueError(f"'{row}' is no method; known: {', '.join(METHODS)}, each as <method> or <method>{_MARK}<variant>")
    if _MARK in row and not variant:
        raise ValueError(f"'{row}' ends without the name of a variant")
    if variant and not varied_model(row):
        raise ValueError(f"'{row}': '{method}' uses no model that has variants")
    return row
