"""Container images, as far as the lab has them: a reference names a small program of this machine.

``registry`` maps a reference to its program; ``helloworld`` is one such program (standard library only, since it runs
as ``python -I -S`` without this package). A new image is a new row in ``registry`` and, if need be, a file beside it.
Nothing is pulled, and nothing is started here: ``meshbook.lab.kubelet`` runs what the registry names.
"""
