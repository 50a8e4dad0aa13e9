"""Errors that reach the reader as two lines: what and where, then how to fix it."""

from __future__ import annotations


class PipelineError(Exception):
    """Something the user can mend: ``message`` names the file or clip and what is wrong, ``hint`` says how to fix it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.hint}" if self.hint else self.message

    def __reduce__(self):  # keeps message and hint apart when a worker process hands the error over
        return type(self), (self.message, self.hint)


class ContractError(PipelineError):
    """A table between two stages breaks its contract."""


class ClipError(PipelineError):
    """One clip cannot be processed. It becomes a row with status and reason; the others go on.

    Args:
        reason: why, in words for the row.
        rejected: True when the clip itself is unsuitable (no face, too short), False when processing failed.
    """

    def __init__(self, reason: str, hint: str = "", rejected: bool = False) -> None:
        super().__init__(reason, hint)
        self.rejected = rejected

    def __reduce__(self):
        return type(self), (self.message, self.hint, self.rejected)
