"""Which permissions a method asks for, and whether the account has them: so that a list of least rights can be proven.

Compute Engine's "IAM permissions reference": a method of the API is mostly the permission of the same name, insert is create, and
what a new thing uses or carries is asked for as well.
"""

from dataclasses import dataclass, field
from typing import Any

from v2c.emulators.gcp.store import Refusal

VERBS = {"insert": "create", "patch": "update", "wait": "get"}
OWN = {  # internal addresses have rights of their own
    "compute.addresses.insert": "compute.addresses.createInternal",
    "compute.addresses.delete": "compute.addresses.deleteInternal",
}
MORE = {  # beyond the method's own
    "compute.images.insert": ("storage.objects.get",),
    "compute.addresses.insert": ("compute.subnetworks.use",),
    "compute.firewalls.insert": ("compute.networks.updatePolicy",),
    "compute.firewalls.delete": ("compute.networks.updatePolicy",),
    "compute.subnetworks.insert": ("compute.networks.updatePolicy",),
    "compute.subnetworks.delete": ("compute.networks.updatePolicy",),
}
FREE = ("cloudresourcemanager.projects.testIamPermissions", "storage.buckets.testIamPermissions")


@dataclass
class Rights:
    """`granted`: the permissions that the account has, None: all. `asked`: all that were ever needed."""

    granted: set[str] | None = None
    asked: set[str] = field(default_factory=set)

    def check(self, method: str, body: Any) -> None:
        """403 for the first permission that is lacking."""
        for permission in needed(method, body if isinstance(body, dict) else {}):
            self.asked.add(permission)
            if self.granted is not None and permission not in self.granted:
                raise Refusal(403, "forbidden", f"Required '{permission}' permission for '{method}'")


def needed(method: str, body: dict[str, Any]) -> list[str]:
    """The permissions of a call."""
    if method in FREE:
        return []
    api, kind, verb = method.split(".")
    found = [OWN.get(method, f"{api}.{kind}.{VERBS.get(verb, verb)}"), *MORE.get(method, ())]
    if api == "compute" and verb == "insert" and body.get("labels"):
        found.append(f"compute.{kind}.setLabels")
    if method == "compute.instances.insert":
        found += ["compute.disks.create", "compute.subnetworks.use"]
        for disk in body.get("disks", ()):
            params = disk.get("initializeParams", {}) if isinstance(disk, dict) else {}
            found += ["compute.images.useReadOnly"] if params.get("sourceImage") else ["compute.disks.use"]
            found += ["compute.disks.setLabels"] if params.get("labels") else []
        found += ["compute.addresses.useInternal"] if any("networkIP" in nic for nic in body.get("networkInterfaces", ())) else []
        found += ["compute.instances.setMetadata"] if body.get("metadata") else []
        found += ["compute.instances.setServiceAccount", "iam.serviceAccounts.actAs"] if body.get("serviceAccounts") else []
    return found
