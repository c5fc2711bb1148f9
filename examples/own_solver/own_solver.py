"""A solver in a package of its own. After `pip install ./examples/own_solver` the commands know it: `--solver midpoint`."""

import ancestral as an
from ancestral.schedules import Level
from ancestral.solvers import Solver, move


@an.register("solver", "midpoint", "second-order midpoint rule")
class Midpoint(Solver):
    """y_s = y_t + (u_s - u_t) eps at the middle of the two. Two evaluations a step, global error O(h^2)."""

    order = 2

    def step(self, denoise, x, t, s, memory, noise):
        p = denoise(x, t)
        if t.alpha == 0:  # u is infinite
            return move(p, s), None
        middle = Level((t.t + s.t) / 2, 1.0, (t.u + s.u) / 2)
        q = denoise(move(p, middle), middle)
        return s.alpha * (x / t.alpha + (s.u - t.u) * q.eps), None
