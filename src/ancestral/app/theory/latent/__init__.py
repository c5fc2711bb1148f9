"""Claims about latent diffusion (Rombach et al. 2022, arXiv:2112.10752)."""

from ancestral.app.theory.latent import cost, conditions  # noqa: F401, I001  # in the order of the theory
