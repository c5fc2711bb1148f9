"""Claims about denoising diffusion (Ho et al. 2020, arXiv:2006.11239; Kingma et al. 2021, arXiv:2107.00630)."""

from ancestral.app.theory.diffusion import chain, bound, training, sampling  # noqa: F401, I001  # in the order of the theory
