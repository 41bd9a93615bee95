"""How busy a site is: recorded, kept for two weeks, looked at to find its quietest hour; and what scaling has done.

`ring` is the file, `window` finds the quietest stretch, `sight` reads the cluster and makes what is told of it,
`usage` sums metrics, `scaling` makes reports for the central cloud, `recorder` does all of it every minute.
"""

from cumulet.monitor.install import BALANCER, install
from cumulet.monitor.look import describe_window, find_window_of, read_bins
from cumulet.monitor.recorder import FOLDER, Recorder, load_usage
from cumulet.monitor.ring import Bin, Ring, open_ring, read_ring
from cumulet.monitor.scaling import Reports, ScaleReport
from cumulet.monitor.sight import Beside, Sight, make_pulse, make_status, read_sight
from cumulet.monitor.usage import SiteLoad, TaskUsage, make_measured
from cumulet.monitor.window import Hour, Window, find_window, summarize_day

__all__ = [
    "BALANCER",
    "FOLDER",
    "Beside",
    "Bin",
    "Hour",
    "Recorder",
    "Reports",
    "Ring",
    "ScaleReport",
    "Sight",
    "SiteLoad",
    "TaskUsage",
    "Window",
    "describe_window",
    "find_window",
    "find_window_of",
    "install",
    "load_usage",
    "make_measured",
    "make_pulse",
    "make_status",
    "open_ring",
    "read_bins",
    "read_ring",
    "read_sight",
    "summarize_day",
]
