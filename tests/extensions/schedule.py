import ancestral as an
from ancestral.schedules import Schedule


@an.register("schedule", "parabola", "alpha = 1 - t^2, sigma = t")
class Parabola(Schedule):
    def alpha(self, t):
        return 1 - t**2

    def sigma(self, t):
        return t
