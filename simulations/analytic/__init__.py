"""How the cost of a network of mailboxes grows with its size: a model for plans that no simulation can play.

Read `plan.py` first: what is planned, and what network comes of it. `costs.py` has what single things cost as measured,
`flows.py` how often they happen to each kind of mailbox, `bounds.py` which bound of the node is met when. `model.py`
puts them together, `tables.py` prints, `picture.py` draws, `check.py` compares with the simulator.
"""

from simulations.analytic.model import Row, analyse
from simulations.analytic.plan import Plan

__all__ = ["Plan", "Row", "analyse"]
