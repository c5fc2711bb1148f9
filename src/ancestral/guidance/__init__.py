"""Denoisers that wrap denoisers, so that every solver has them for free.

One convention of scale holds for every kind of guidance between two denoisers. With D_0 the one to be left behind and D_1 the
one that is wanted,

    D = D_0 + scale (D_1 - D_0)                                                                                       (1)

so scale 0 is D_0, scale 1 is D_1 and what is above 1 goes beyond it. D_1 is the model with its condition; in the place of D_0
stand the model without one (Ho & Salimans 2022), with a negative one, or a weaker model (Karras et al. 2024). D is E[x | x_t];
since eps, v, velocity and score are affine in it at fixed x_t with weights that add up to 1, (1) holds for each of them.

A classifier or a measurement instead adds the gradient of its log-likelihood to the score,

    score <- score + scale grad log p(y | x_t),      D <- D + scale (sigma^2 / alpha) grad log p(y | x_t)              (2)

where again 0 is the model as it is and 1 is Bayes' rule.
"""

from ancestral.guidance.autoguidance import Autoguidance
from ancestral.guidance.classifier import ClassifierGuidance
from ancestral.guidance.classifier_free import ClassifierFree, Conditional, guided
from ancestral.guidance.clip import Clip
from ancestral.guidance.posterior import Posterior
from ancestral.guidance.repaint import RePaint

__all__ = [
    "Autoguidance",
    "ClassifierFree",
    "ClassifierGuidance",
    "Clip",
    "Conditional",
    "Posterior",
    "RePaint",
    "guided",
]
