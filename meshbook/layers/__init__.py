"""Which layer saved the requests of an outage, as far as anybody can tell from outside the proxies.

- ``access_logs``: what proxies printed, as ``tables.ACCESS`` (``reading``; one line is read by ``accesslog``).
- ``health_check`` before an outage and ``look`` in its middle: what the load balancer looks at (``balancing``).
- ``layers``: both, and what API servers showed, to ``tables.LAYERS`` (``attribution``; pure).

A new log format goes to ``accesslog``. Nothing is judged here: that a request was saved is known by ``probes``.
"""

from meshbook.layers.attribution import Balancer, Evidence, layers
from meshbook.layers.balancing import health_check, look
from meshbook.layers.reading import Logs, access_logs

__all__ = ["Balancer", "Evidence", "Logs", "access_logs", "health_check", "layers", "look"]
