"""Read by every IPython kernel of the environment that has it in its ``etc/ipython``; make puts it there.

papermill starts its kernels over plain TCP and has no option for another way. They listen on loopback, and take no
message that is not signed with the key of their connection file; the warning of that is not for who runs a notebook.
``meshbook run`` and ``make lab`` start kernels that encrypt.
"""

import logging

logging.getLogger("IPKernelApp").addFilter(lambda record: "TCP without encryption" not in record.getMessage())
