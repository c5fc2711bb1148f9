"""Claims about adversarial networks (Goodfellow et al. 2014, arXiv:1406.2661)."""

from ancestral.app.theory.gan import discriminator, objectives, learning  # noqa: F401, I001  # in the order of the theory
