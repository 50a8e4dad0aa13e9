"""Metrics of talking-face videos: one module a family, each a pure function beside a class that accumulates.

Every metric named in a result table has an entry in :mod:`flowvqtalker.metrics.registry` and in ``docs/metrics.md``.
"""
