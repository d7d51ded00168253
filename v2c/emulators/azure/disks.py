"""Managed disks: ReadyToUpload -> ActiveUpload -> Unattached -> Attached, and the SAS that opens and closes them.

A grant of access makes a SAS of its own and ends the one before it. A revoked upload is judged by its footer: what is no fixed
VHD of the right size becomes a disk that can be deleted and nothing else.
"""

import time
import uuid
from collections.abc import Mapping
from urllib.parse import quote

from v2c.emulators.azure import accounts, calls, vhd
from v2c.emulators.azure.answers import Answer, Refusal, in_json
from v2c.emulators.azure.calls import Call, Cloud, existing, known, listed, made
from v2c.emulators.azure.pages import Blob
from v2c.emulators.azure.store import Resource

KIND = "Microsoft.Compute/disks"
MIB, GIB = 1 << 20, 1 << 30
LEAST, MOST = 20 * MIB + vhd.FOOTER, 32 * 1024 * GIB + vhd.FOOTER  # bytes of uploadSizeBytes (model of CreationData)
LONGEST_S = 60 * 86400  # of a SAS (disks-sas-change)
SKUS = {"Standard_LRS", "StandardSSD_LRS", "Premium_LRS", "Premium_ZRS", "StandardSSD_ZRS", "PremiumV2_LRS", "UltraSSD_LRS"}


def put(cloud: Cloud, call: Call) -> Answer:
    """Makes a disk for upload, a copy of another, or one of a page blob. The same body again changes nothing."""
    name = call.names["diskname"]
    before = cloud.store.get(call.id(KIND, name))
    if before is not None:
        fixed = (
            ("location",),
            ("properties", "creationData"),
            ("properties", "hyperVGeneration"),
            ("properties", "securityProfile"),
        )
        return calls.adopted(cloud, call, before, *fixed)
    disk = made(cloud, call, KIND, name)
    if (sku := disk.shown.setdefault("sku", {"name": "Standard_LRS"}).get("name")) not in SKUS:
        raise Refusal(400, "InvalidParameter", f"The value '{sku}' of parameter 'sku.name' is invalid.")
    _secured(cloud, disk)
    blob = disk.hidden["guid"]
    creation = disk.properties.get("creationData", {})
    option = creation.get("createOption")
    if option == "Upload":
        size = creation.get("uploadSizeBytes", 0)
        if not LEAST <= size <= MOST or (size - vhd.FOOTER) % MIB:
            text = f"The value '{size}' of 'uploadSizeBytes' is invalid: whole MiB and 512 bytes, from {LEAST} to {MOST}."
            raise Refusal(400, "InvalidParameter", text)
        cloud.pages.create(blob, size)
        disk.properties["diskState"] = "ReadyToUpload"
        held = size - vhd.FOOTER
    elif option == "Copy":
        source = existing(cloud, creation.get("sourceResourceId", ""), KIND)
        if source.properties["diskState"] not in ("Unattached", "Attached", "Reserved"):
            raise Refusal(409, "OperationNotAllowed", f"The source disk is in the state {source.properties['diskState']}.")
        sound(source)
        cloud.pages.copy(source.hidden["guid"], blob)
        disk.hidden["footer"] = source.hidden["footer"]
        for key in ("osType", "hyperVGeneration", "supportedCapabilities", "securityProfile"):
            if key in source.properties:
                disk.properties.setdefault(key, source.properties[key])
        disk.properties["diskState"] = "Unattached"
        held = source.properties["diskSizeBytes"]
    elif option == "Import":
        return _imported(cloud, call, disk)
    else:
        raise Refusal(400, "InvalidParameter", f"createOption '{option}' is not one that this double has.")
    disk.properties.update(diskSizeBytes=held, diskSizeGB=-(-held // GIB), uniqueId=blob)
    return calls.put(cloud, call, disk, status=202)


def security(disk: Resource) -> str:
    """What machines a disk boots."""
    return str(disk.properties.get("securityProfile", {}).get("securityType", "Standard"))


def _secured(cloud: Cloud, disk: Resource) -> None:
    """A security type is said of disks that an operating system of generation 2 boots from (DiskSecurityProfile, trusted-launch);
    a copy has that of its source."""
    about, kind = disk.properties, security(disk)
    source = cloud.store.get(about.get("creationData", {}).get("sourceResourceId", ""))
    if source is not None and "securityProfile" in about and security(source) != kind:
        text = f"The security type {kind} is not that of the source disk, {security(source)}."
        raise Refusal(400, "InvalidParameter", text)
    if kind == "Standard":
        return
    if not about.get("osType") or about.get("hyperVGeneration") != "V2":
        text = f"Security type {kind} is only for OS disks whose hyperVGeneration is V2."
        raise Refusal(400, "InvalidParameter", text)


def _imported(cloud: Cloud, call: Call, disk: Resource) -> Answer:
    """A disk of a page blob, if that is a fixed VHD; else the operation fails, and there is no disk."""
    blob = accounts.imported(cloud, disk.properties["creationData"], call.base)
    size, where = blob.size - vhd.FOOTER, disk.properties["creationData"]["sourceUri"]

    def work() -> object:
        if size <= 0 or size % MIB:
            text = f"The VHD '{where}' has an unsupported virtual size of {size} bytes. The size must be a whole number (in MBs)."
            raise Refusal(400, "InvalidVhd", text)
        footer = blob.read(size, size + vhd.FOOTER)
        if wrong := vhd.complaint(footer, size):
            text = f"The disk '{disk.shown['name']}' with blob {where} is not a supported VHD: {wrong}."
            raise Refusal(400, "InvalidVhd", text)
        with cloud.store.lock:
            cloud.pages.imported(blob, disk.hidden["guid"], size)
            disk.hidden["footer"] = footer.hex()
            disk.properties.update(diskState="Unattached", diskSizeBytes=size, diskSizeGB=-(-size // GIB))
            disk.properties["uniqueId"] = disk.hidden["guid"]
            cloud.store.save(disk)
        return disk.shown

    creating = {**disk.shown, "properties": {**disk.properties, "provisioningState": "Creating"}}
    return cloud.operations.begin(call.base, cloud.subscription, work, body=creating)


def patch(cloud: Cloud, call: Call) -> Answer:
    """Tags, and what of the properties may change."""
    disk = known(cloud, call, KIND, call.names["diskname"])
    if "tags" in call.body:
        disk.shown["tags"] = call.body["tags"]
    wanted = call.body.get("properties", {})
    if unknown := set(wanted) - {
        "osType",
        "supportedCapabilities",
        "supportsHibernation",
        "networkAccessPolicy",
        "publicNetworkAccess",
    }:
        raise Refusal(409, "PropertyChangeNotAllowed", f"Changing {', '.join(sorted(unknown))} is not one that this double has.")
    disk.properties.update(wanted)
    cloud.store.save(disk)
    return cloud.operations.begin(call.base, cloud.subscription, lambda: disk.shown, body=disk.shown)


def get(cloud: Cloud, call: Call) -> Answer:
    return in_json(200, known(cloud, call, KIND, call.names["diskname"]).shown)


def all_of(cloud: Cloud, call: Call) -> Answer:
    return listed(cloud, call, KIND)


def delete(cloud: Cloud, call: Call) -> Answer:
    disk = cloud.store.get(call.id(KIND, call.names["diskname"]))
    if disk is None:
        return Answer(204)
    if disk.properties["diskState"] not in ("ReadyToUpload", "Unattached"):
        text = f"Disk {disk.shown['name']} cannot be deleted because it is in the state {disk.properties['diskState']}."
        raise Refusal(409, "OperationNotAllowed", text)
    cloud.store.remove(disk.id)
    cloud.pages.forget(disk.hidden["guid"])
    return cloud.operations.begin(call.base, cloud.subscription, lambda: None)


def grant(cloud: Cloud, call: Call) -> Answer:
    """A new SAS; the one before it is void."""
    disk = known(cloud, call, KIND, call.names["diskname"])
    access, seconds = call.body["access"], call.body["durationInSeconds"]
    if not 0 < seconds <= LONGEST_S:
        raise Refusal(400, "InvalidParameter", f"durationInSeconds {seconds} is not between 1 and {LONGEST_S}.")
    state = disk.properties["diskState"]
    allowed = {"Write": ("ReadyToUpload", "ActiveUpload"), "Read": ("Unattached", "ActiveSAS", "Reserved")}
    if access == "Read":
        sound(disk)
    if state not in allowed.get(access, ()):
        raise Refusal(409, "OperationNotAllowed", f"{access} access cannot be granted to a disk in the state {state}.")
    policy = str(uuid.uuid4())
    disk.hidden["grant"] = {"policy": policy, "access": access, "until": time.time() + seconds}
    disk.properties["diskState"] = "ActiveUpload" if access == "Write" else "ActiveSAS"
    cloud.store.save(disk)
    name = disk.hidden["guid"]
    sas = f"sv=2018-03-28&sr=b&si={policy}&sig={quote(cloud.pages.signature(name, policy), safe='')}"
    answer = {"accessSAS": f"{call.base}/md-impexp-{name[:8]}/{name}/abcd?{sas}"}
    return cloud.operations.begin(call.base, cloud.subscription, lambda: answer)


def revoke(cloud: Cloud, call: Call) -> Answer:
    """Ends the SAS, and with it an upload."""
    disk = known(cloud, call, KIND, call.names["diskname"])
    state = disk.properties["diskState"]
    if state not in ("ActiveUpload", "ActiveSAS"):
        return cloud.operations.begin(call.base, cloud.subscription, lambda: None)
    if state == "ActiveUpload":
        blob = cloud.pages.open(disk.hidden["guid"])
        size = disk.properties["diskSizeBytes"]
        footer = blob.read(size, size + vhd.FOOTER)
        if wrong := vhd.complaint(footer, size):
            disk.hidden["broken"] = wrong
        with blob.path.open("r+b") as file:
            file.truncate(size)
        blob.tail = footer
        disk.hidden["footer"] = footer.hex()
    disk.hidden.pop("grant", None)
    disk.properties["diskState"] = "Attached" if disk.shown.get("managedBy") else "Unattached"
    cloud.store.save(disk)
    return cloud.operations.begin(call.base, cloud.subscription, lambda: None)


def sound(disk: Resource) -> None:
    """Refuses a disk whose upload ended without a fixed VHD in it."""
    if wrong := disk.hidden.get("broken"):
        raise Refusal(400, "InvalidVhd", f"The blob of disk {disk.shown['name']} is not a valid fixed VHD: {wrong}.")


def opened(cloud: Cloud, name: str, query: Mapping[str, str], operation: str) -> tuple[Resource, Blob]:
    """The disk and the blob that a SAS opens, or AuthenticationFailed."""
    failed = Refusal(
        403,
        "AuthenticationFailed",
        "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly.",
    )
    disk = next((d for d in cloud.store.all() if d.hidden.get("guid") == name and d.shown["type"] == KIND), None)
    grant = disk.hidden.get("grant") if disk else None
    policy = query.get("si", "")
    if disk is None or grant is None or query.get("sig") != cloud.pages.signature(name, policy):
        raise failed
    if policy != grant["policy"] or time.time() > grant["until"]:
        raise failed
    if operation in ("PutPage", "ClearPages") and grant["access"] != "Write":
        raise Refusal(403, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation.")
    return disk, cloud.pages.open(name, bytes.fromhex(disk.hidden.get("footer", "")))


def expire(cloud: Cloud, disk: Resource) -> None:
    """The disk's SAS runs out now: a fault on demand."""
    with cloud.store.lock:
        if "grant" in disk.hidden:
            disk.hidden["grant"]["until"] = 0.0
            cloud.store.save(disk)
