"""Guidance: denoisers that wrap denoisers, so that every solver can use them.

All guidance between two denoisers has the same convention of scale. With D_0 the unwanted denoiser and D_1 the wanted one,

    D = D_0 + scale (D_1 - D_0)                                                                                       (1)

so scale 0 is D_0, scale 1 is D_1, and a scale above 1 extrapolates beyond D_1. D_1 is the model with its condition. D_0 is the
model without a condition (Ho & Salimans 2022), the model with a negative condition, or a weaker model (Karras et al. 2024). D
is E[x | x_t]. Since eps, v, velocity and score are affine in it at fixed x_t, and the weights in (1) add up to 1, (1) also
holds for each of them.

A classifier or a measurement instead adds the gradient of its log-likelihood to the score,

    score <- score + scale grad log p(y | x_t),      D <- D + scale (sigma^2 / alpha) grad log p(y | x_t)              (2)

where again scale 0 is the model without guidance, and scale 1 is Bayes' rule.
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
