"""ImportSnapshot: an object of S3 becomes a snapshot, as a task that takes its time."""

from v2c.emulators.aws.cloud import Operation

OPERATIONS: dict[str, Operation] = {}
