"""Judges: networks that only measure. None of them, nor any of its features, is ever part of a training loss of the generator."""
