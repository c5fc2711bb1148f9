"""Likelihoods and their bounds: the type `Bound`, the variational bound of a chain, and the probability-flow ODE."""

from ancestral.likelihood.bound import Bound, Kind, elbo, iwae
from ancestral.likelihood.lattice import Lattice
from ancestral.likelihood.ode import CHEAP, ode_log_prob
from ancestral.likelihood.vlb import Variance, vlb

__all__ = ["CHEAP", "Bound", "Kind", "Lattice", "Variance", "elbo", "iwae", "ode_log_prob", "vlb"]
