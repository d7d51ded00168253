"""Boots in QEMU on virtual hardware shaped like a platform's, reaching nothing but a metadata service.

`shape` turns facts into QEMU's arguments, `machine` runs it, `serial` keeps its console, `metadata` and `imds` answer at
169.254.169.254, `rehearse` boots a repaired machine before it is uploaded. The same boot is the launch of `local:` targets.
"""
