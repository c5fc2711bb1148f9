"""Claims about score matching, Langevin dynamics and their diffusions (Song & Ermon 2019, arXiv:1907.05600; Song et al. 2021,
arXiv:2011.13456).
"""

from ancestral.app.theory.score import identities, matching, langevin, flow  # noqa: F401, I001  # in the order of the theory
