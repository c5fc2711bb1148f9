"""The lab: the theory as experiments that answer at once. Each file is one screen; the web and Python use the same functions.

Results are plain values, ready for JSON. Experiments that train are generators of their states.
"""

from ancestral.app.lab.adversarial import gan
from ancestral.app.lab.forward import forward
from ancestral.app.lab.guided import guided
from ancestral.app.lab.latents import decode, latent, vae
from ancestral.app.lab.plane import SETS, Points, plane_of
from ancestral.app.lab.readings import readings
from ancestral.app.lab.score import field, paths

__all__ = ["SETS", "Points", "decode", "field", "forward", "gan", "guided", "latent", "paths", "plane_of", "readings", "vae"]
