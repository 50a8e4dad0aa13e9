"""FlowVQTalker: emotional talking faces from one portrait, speech and an emotion label (CVPR 2024, arXiv 2403.06375).

A pure library: arrays and tensors in, arrays and tensors out. Conventions: docs/conventions.md.
"""

__version__ = "0.1.0"
