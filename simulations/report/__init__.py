"""What people see of a run: one page that needs nothing else, and one picture.

Read `figures.py` first: it works out what is shown. `timeline.py`, `delay_chart.py`, `network.py` (on `layout.py`),
`tables.py` and `compare.py` draw one part of the page each, `data.py` is the JSON in it, `page.py` puts them together
with `page.css` and `page.js`. `picture.py` draws the picture. `words.py` says how times, sizes and names are written.
"""

from simulations.report.page import write_report
from simulations.report.picture import write_picture

__all__ = ["write_picture", "write_report"]
