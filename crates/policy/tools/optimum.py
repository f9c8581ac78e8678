"""Compares goals of plans with the optimum of a linear program.

    optimum.py ENVIRONMENT < INSTANCES         (called by the example `optimum`)

What is claimed of the goals P is that, within the bounds, everybody pays the same price S / cost(P), where cost(P) counts an
active byte once and an idle one k times. With the level 1/price = cost(P) / S that is the one solution of

    minimise    sum over spaces of the integral from 0 to P of cost(x) / S dx
    subject to  sum of P = min(capacity, sum of most),  least <= P <= most

as the integrands rise strictly: at the optimum no space can take a byte from another that values it less (Karush, Kuhn, Tucker). Any
rising function of the level has the same optimum; this one has integrals that are known exactly, the cost being linear in two parts.

The linear program cuts the range of each space into pieces, and within a piece takes the mean of the integrand. As these means rise,
pieces fill in order by themselves. Where a solution lies, pieces are cut finer, the whole range being kept, until they are finer than
what is compared. Nothing here is taken from the plan but its capacity: bounds are made anew from intents and observations.

An environment with HiGHS, the solver, is made in the directory ENVIRONMENT when there is none.

Exit codes: 0 all goals are within the tolerance; 1 it cannot run here, and a line with CANNOT RUN says why; 3 a goal is off.
"""

import json
import os
import subprocess
import sys
import venv

SOLVER = "highspy==1.15.1"
# A goal may be off by this part of itself.
TOLERANCE = 1e-3
# Goals below this part of the capacity are compared as if they were as large.
SMALLEST = 1e-4
# Pieces are this much finer than what is compared.
FINENESS = 10
PIECES = 64
ROUNDS = 12
# The exit code for a claim that does not hold, as cargo x has it.
GOAL_OFF = 3


def cannot_run(why):
    print(f"CANNOT RUN: comparison with a linear program: {why}")
    sys.exit(1)


def solver(environment):
    """The module of the solver; this program starts again within the environment if that is where the solver is."""
    try:
        import highspy

        return highspy
    except ImportError:
        pass
    python = os.path.join(environment, "bin", "python")
    if sys.prefix == os.path.abspath(environment):
        cannot_run(f"{SOLVER} does not load")
    if not has_solver(python):
        try:
            venv.create(environment, with_pip=True, clear=True)
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", SOLVER]
            subprocess.run(install, check=True, timeout=600, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError) as error:
            way_out = f"install python3-venv and let pip reach PyPI, or have {SOLVER} where python3 finds it"
            cannot_run(f"{SOLVER} cannot be installed into {environment}: {error}; {way_out}")
    os.execv(python, [python, os.path.abspath(__file__), environment])


def has_solver(python):
    try:
        command = [python, "-c", "import highspy"]
        return subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


class Claim:
    """What a space may have, in parts of the capacity."""

    def __init__(self, space, idle_price, unit):
        intent, seen = space["intent"], space["observation"]
        limit = float("inf") if intent["limit_bytes"] is None else intent["limit_bytes"]
        self.least = min(intent["reservation_bytes"], limit) / unit
        self.most = max(self.least, min(limit, seen["wanted_bytes"]) / unit)
        self.active = seen["active_bytes"] / unit
        self.shares = intent["shares"]
        self.idle_price = idle_price

    def integral(self, held):
        """Of cost / shares, from 0 to held."""
        active = min(held, self.active)
        idle = held - active
        return (active * active / 2 + self.active * idle + self.idle_price * idle * idle / 2) / self.shares

    def cuts(self, near, width):
        """Where the range is cut: evenly and, near a solution, into pieces of a width."""
        span = self.most - self.least
        cuts = {self.least, self.most} | {self.least + span * piece / PIECES for piece in range(PIECES)}
        if near is not None:
            cuts |= {near + width * piece for piece in range(-PIECES, PIECES + 1)}
        return sorted(cut for cut in cuts if self.least <= cut <= self.most)


def solve(highspy, claims, cuts, total, scale):
    """What each claim gets by the linear program over the pieces between cuts."""
    highs = highspy.Highs()
    highs.silent()
    pieces, owners = [], []
    for owner, (claim, points) in enumerate(zip(claims, cuts)):
        for begin, end in zip(points, points[1:]):
            if end > begin:
                mean = (claim.integral(end) - claim.integral(begin)) / (end - begin)
                pieces.append(highs.addVariable(lb=0, ub=end - begin, obj=mean * scale))
                owners.append(owner)
    left = total - sum(claim.least for claim in claims)
    held = [claim.least for claim in claims]
    if not pieces:
        return held
    highs.addConstr(sum(pieces[1:], pieces[0] * 1.0) == left)
    highs.minimize()
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise RuntimeError(f"the solver ends with {highs.getModelStatus()}")
    for owner, value in zip(owners, highs.getSolution().col_value):
        held[owner] += value
    return held


def optimum(highspy, claims):
    """The goals, in parts of the capacity."""
    total = min(1.0, sum(claim.most for claim in claims))
    scale = sum(claim.shares for claim in claims)
    widths = [(claim.most - claim.least) / PIECES for claim in claims]
    held = solve(highspy, claims, [claim.cuts(None, 0) for claim in claims], total, scale)
    for _ in range(ROUNDS):
        fine = [max(goal, SMALLEST) * TOLERANCE / FINENESS for goal in held]
        # The optimum is at most as many pieces away as there are claims.
        widths = [max(width * 4 / PIECES, limit) for width, limit in zip(widths, fine)]
        cuts = [claim.cuts(goal, width) for claim, goal, width in zip(claims, held, widths)]
        before, held = held, solve(highspy, claims, cuts, total, scale)
        moved = max(abs(a - b) / limit for a, b, limit in zip(before, held, fine))
        if moved <= FINENESS / 2 and all(width <= limit for width, limit in zip(widths, fine)):
            return held
    raise RuntimeError("the pieces do not become fine enough")


def deviation(highspy, instance):
    """By which part of itself a goal is off at most."""
    plan, situation = instance["plan"], instance["situation"]
    unit = plan["capacity_bytes"]
    idle_price = 1 / (1 - instance["settings"]["tax"])
    claims = [Claim(space, idle_price, unit) for space in situation["spaces"]]
    goals = [grant["reason"]["goal_bytes"] / unit for grant in plan["grants"]]
    best = optimum(highspy, claims)
    return max(abs(ours - theirs) / max(theirs, SMALLEST) for ours, theirs in zip(goals, best))


def main():
    highspy = solver(sys.argv[1])
    instances = [json.loads(line) for line in sys.stdin]
    off = [deviation(highspy, instance) for instance in instances]
    wrong = [at for at, part in enumerate(off) if not part <= TOLERANCE]
    for at in wrong:
        print(f"instance {at} is off by {off[at]:.3%}: {json.dumps(instances[at])}")
    ordered = sorted(off)
    print(
        f"goals and optimum of {SOLVER}: {len(off) - len(wrong)} of {len(off)} instances within {TOLERANCE:.1%}; "
        f"off by {ordered[len(off) // 2]:.4%} in the median, {ordered[-1]:.4%} at most"
    )
    sys.exit(GOAL_OFF if wrong else 0)


if __name__ == "__main__":
    main()
