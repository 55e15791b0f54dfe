"""Distillation-aware student search in JAX: rank student networks before training them.

The package is imported by submodule (``from dass_jax import search_space, resnet``), so that a
command can parse its flags without paying for the import of JAX.
"""

__version__ = "0.1.0"
