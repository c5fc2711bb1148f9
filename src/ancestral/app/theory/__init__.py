"""The theory of the five families. The functions that train and sample compute both sides of every claim."""

from ancestral.app.theory import vae, gan, diffusion, latent, score  # noqa: F401, I001  # in the order of the theory
from ancestral.app.theory.claims import CLAIMS, HEADER, Along, Claim, Clouds, K, Sides, Verdict, select

__all__ = ["CLAIMS", "HEADER", "Along", "Claim", "Clouds", "K", "Sides", "Verdict", "select"]
