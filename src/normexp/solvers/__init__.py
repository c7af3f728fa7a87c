"""Floor 5: how a softmax regression reaches its optimum. One algorithm per file."""

from normexp.solvers.checkpoint import Checkpoint as Checkpoint
from normexp.solvers.corner_fit import CornerProblem as CornerProblem
from normexp.solvers.corner_fit import fit_penalised as fit_penalised
from normexp.solvers.fit import RidgeProblem as RidgeProblem
from normexp.solvers.fit import fit_softmax_regression as fit_softmax_regression
from normexp.solvers.fit import prefers_rows as prefers_rows
from normexp.solvers.forecast import Forecast as Forecast
from normexp.solvers.information import covariance as covariance
from normexp.solvers.outcome import Fitted as Fitted
from normexp.solvers.outcome import Outcome as Outcome
from normexp.solvers.outcome import Solution as Solution
from normexp.solvers.penalty import Penalty as Penalty
from normexp.solvers.running import Running as Running
from normexp.solvers.running import absorb as absorb
from normexp.solvers.running import first_of_a_stream as first_of_a_stream
from normexp.solvers.running import summed_up as summed_up
from normexp.solvers.streamed_fit import Meter as Meter
from normexp.solvers.streamed_fit import Progress as Progress
from normexp.solvers.streamed_fit import fit_streamed as fit_streamed
from normexp.solvers.truncated_newton import Step as Step

__all__ = [
    "Checkpoint",
    "CornerProblem",
    "Fitted",
    "Forecast",
    "Meter",
    "Outcome",
    "Penalty",
    "Progress",
    "RidgeProblem",
    "Running",
    "Solution",
    "Step",
    "absorb",
    "covariance",
    "first_of_a_stream",
    "fit_penalised",
    "fit_softmax_regression",
    "fit_streamed",
    "prefers_rows",
    "summed_up",
]
