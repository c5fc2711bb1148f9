"""Claims about the variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114)."""

from ancestral.app.theory.vae import bound, likelihood, optimum  # noqa: F401  # in the order of the theory
