"""Leases of blobs: who holds one writes alone, and names it in every request (Lease Blob, Blob service REST API).

Of the durations only the one without an end is here: what a lease of seconds does, this double does not know.
"""

from collections.abc import Mapping

from v2c.emulators.azure.answers import Answer, Refusal
from v2c.emulators.azure.store import Resource

ENDLESS = "-1"


def act(blob: Resource, headers: Mapping[str, str]) -> Answer:
    """Acquires, breaks or releases; the caller saves the blob."""
    action, held = headers.get("x-ms-lease-action", "").lower(), blob.hidden.get("lease", "")
    if action == "acquire":
        wanted = headers.get("x-ms-proposed-lease-id", "")
        if headers.get("x-ms-lease-duration") != ENDLESS or not wanted:
            raise Refusal(400, "InvalidHeaderValue", "This double has leases without an end, under an id that is proposed.")
        if held and held != wanted:
            raise Refusal(409, "LeaseAlreadyPresent", "There is already a lease present.")
        blob.hidden |= {"lease": wanted, "leased": "leased"}
        return Answer(201, headers={"x-ms-lease-id": wanted})
    if action == "break":
        if not held and blob.hidden.get("leased") != "broken":
            raise Refusal(409, "LeaseNotPresentWithLeaseOperation", "There is currently no lease on the blob.")
        if headers.get("x-ms-lease-break-period") != "0":
            raise Refusal(400, "InvalidHeaderValue", "This double breaks leases at once.")
        blob.hidden |= {"lease": "", "leased": "broken"}
        return Answer(202, headers={"x-ms-lease-time": "0"})
    if action == "release":
        if held != headers.get("x-ms-lease-id", ""):
            raise Refusal(409, "LeaseIdMismatchWithLeaseOperation", "The lease ID specified did not match the blob's.")
        blob.hidden |= {"lease": "", "leased": ""}
        return Answer(200)
    raise Refusal(400, "InvalidHeaderValue", f"x-ms-lease-action {action} is not one that this double has.")


def permit(blob: Resource, headers: Mapping[str, str]) -> None:
    """Refuses a write that does not name the lease, or names one that is over."""
    held, named = blob.hidden.get("lease", ""), headers.get("x-ms-lease-id", "")
    if held and not named:
        raise Refusal(412, "LeaseIdMissing", "There is currently a lease on the blob and no lease ID was specified.")
    if held and named != held:
        raise Refusal(412, "LeaseIdMismatchWithBlobOperation", "The lease ID specified did not match the lease ID for the blob.")
    if named and not held:
        raise Refusal(412, "LeaseNotPresentWithBlobOperation", "There is currently no lease on the blob.")


def told(blob: Resource) -> dict[str, str]:
    """What a read says of it."""
    state = blob.hidden.get("leased") or "available"
    more = {"x-ms-lease-duration": "infinite"} if state == "leased" else {}
    return {"x-ms-lease-state": state, "x-ms-lease-status": "locked" if state == "leased" else "unlocked", **more}
