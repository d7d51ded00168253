"""Virtual machines from specialised disks. What is started really boots; its serial log and screen are had by a SAS."""

import time
from collections.abc import Mapping
from typing import Any

from v2c.emulators.azure import calls, disks, network, pages
from v2c.emulators.azure.answers import Answer, Refusal, in_json
from v2c.emulators.azure.calls import Call, Cloud, existing, known, listed, made
from v2c.emulators.azure.store import Resource
from v2c.emulators.machines import Hardware
from v2c.model import Firmware

KIND = "Microsoft.Compute/virtualMachines"
GROUP = "Microsoft.Compute/capacityReservationGroups"
RESERVATION = f"{GROUP}/capacityReservations"
SAS_MINUTES = (1, 1440)


def put(cloud: Cloud, call: Call) -> Answer:
    """Makes the machine and starts it. The same body again changes nothing."""
    name = call.names["vmname"]
    before = cloud.store.get(call.id(KIND, name))
    if before is not None:
        fixed = (("location",), ("properties", "storageProfile", "osDisk", "managedDisk"), ("properties", "networkProfile"))
        return calls.adopted(cloud, call, before, *fixed)
    vm = made(cloud, call, KIND, name)
    about = vm.properties
    if "osProfile" in about or "imageReference" in about.get("storageProfile", {}):
        text = "osProfile and imageReference are not allowed when an existing disk is attached as the OS disk."
        raise Refusal(409, "PropertyChangeNotAllowed", text)
    size = _size(cloud, about)
    held = _disks(cloud, about, size)
    cards = _cards(cloud, about, size)
    _quota(cloud, vm, size)
    if wanted := about.get("capacityReservation", {}).get("capacityReservationGroup", {}).get("id"):
        existing(cloud, wanted, GROUP)
    about["vmId"] = vm.hidden["guid"]
    about.setdefault("securityProfile", {}).setdefault("securityType", "Standard")
    vm.hidden["power"] = "starting"
    with cloud.store.lock:
        for disk in held:
            disk.shown["managedBy"] = vm.id
            disk.properties["diskState"] = "Attached"
            cloud.store.save(disk)
        for nic in cards:
            nic.properties["virtualMachine"] = {"id": vm.id}
            cloud.store.save(nic)
        cloud.store.save(vm)
    return cloud.operations.begin(call.base, cloud.subscription, lambda: _boot(cloud, vm), status=201, body=vm.shown)


def patch(cloud: Cloud, call: Call) -> Answer:
    """Tags, and the machine's capacity reservation: given back while it runs only when nothing is reserved any more
    (capacity-reservation-remove-vm)."""
    vm = known(cloud, call, KIND, call.names["vmname"])
    wanted = call.body.get("properties", {})
    if set(wanted) - {"capacityReservation"}:
        raise Refusal(400, "InvalidParameter", "This double changes a machine's tags and its capacity reservation only.")
    if "capacityReservation" in wanted:
        group = (wanted["capacityReservation"] or {}).get("capacityReservationGroup") or {}
        if group.get("id"):
            raise Refusal(409, "OperationNotAllowed", "A regional machine that runs cannot be associated with a reservation.")
        if _reserved(cloud, vm) and vm.hidden["power"] != "deallocated":
            raise Refusal(409, "OperationNotAllowed", "The machine uses a reservation whose quantity is not zero.")
        vm.properties.pop("capacityReservation", None)
    vm.shown["tags"] = call.body.get("tags", vm.shown.get("tags", {}))
    cloud.store.save(vm)
    return cloud.operations.begin(call.base, cloud.subscription, lambda: vm.shown, status=200, body=vm.shown)


def bound(vm: Resource) -> str:
    """The id of the reservation group that a machine is associated with; empty: none."""
    return str(vm.properties.get("capacityReservation", {}).get("capacityReservationGroup", {}).get("id") or "")


def get(cloud: Cloud, call: Call) -> Answer:
    return in_json(200, known(cloud, call, KIND, call.names["vmname"]).shown)


def all_of(cloud: Cloud, call: Call) -> Answer:
    return listed(cloud, call, KIND)


def start(cloud: Cloud, call: Call) -> Answer:
    vm = known(cloud, call, KIND, call.names["vmname"])
    _quota(cloud, vm, _size(cloud, vm.properties))
    return cloud.operations.begin(call.base, cloud.subscription, lambda: _boot(cloud, vm))


def stop(cloud: Cloud, call: Call) -> Answer:
    vm = known(cloud, call, KIND, call.names["vmname"])
    return cloud.operations.begin(call.base, cloud.subscription, lambda: _halt(cloud, vm))


def delete(cloud: Cloud, call: Call) -> Answer:
    """Removes it; its disks and cards stay unless their deleteOption says otherwise."""
    vm = cloud.store.get(call.id(KIND, call.names["vmname"]))
    if vm is None:
        return Answer(204)

    def work() -> None:
        _halt(cloud, vm)
        profile = vm.properties["storageProfile"]
        with cloud.store.lock:
            for entry in (profile["osDisk"], *profile.get("dataDisks", [])):
                if (disk := cloud.store.get(entry["managedDisk"]["id"])) is None:
                    continue
                disk.shown.pop("managedBy", None)
                disk.properties["diskState"] = "Unattached"
                cloud.store.save(disk)
                if entry.get("deleteOption", "Detach") == "Delete":
                    cloud.store.remove(disk.id)
                    cloud.pages.forget(disk.hidden["guid"])
            for entry in vm.properties["networkProfile"]["networkInterfaces"]:
                if nic := cloud.store.get(entry["id"]):
                    nic.properties.pop("virtualMachine", None)
                    cloud.store.save(nic)
            cloud.store.remove(vm.id)

    return cloud.operations.begin(call.base, cloud.subscription, work)


def view(cloud: Cloud, call: Call) -> Answer:
    vm = known(cloud, call, KIND, call.names["vmname"])
    power = _power(cloud, vm)
    statuses = [
        {"code": "ProvisioningState/succeeded", "level": "Info", "displayStatus": "Provisioning succeeded"},
        {"code": f"PowerState/{power}", "level": "Info", "displayStatus": f"VM {power}"},
    ]
    return in_json(200, {"hyperVGeneration": vm.hidden.get("generation", "V1"), "statuses": statuses})


def diagnostics(cloud: Cloud, call: Call) -> Answer:
    """The places of serial log and screen, for so many minutes."""
    vm = known(cloud, call, KIND, call.names["vmname"])
    if not vm.properties.get("diagnosticsProfile", {}).get("bootDiagnostics", {}).get("enabled"):
        raise Refusal(409, "BootDiagnosticsNotEnabled", f"Boot diagnostics is not enabled for VM {vm.shown['name']}.")
    minutes = int(call.query.get("sasUriExpirationTimeInMinutes", "120"))
    if not SAS_MINUTES[0] <= minutes <= SAS_MINUTES[1]:
        raise Refusal(400, "InvalidParameter", "sasUriExpirationTimeInMinutes is between 1 and 1440.")
    name, until = vm.hidden["guid"], str(int(time.time() + 60 * minutes))
    links = {}
    for key, file in (("consoleScreenshotBlobUri", "screenshot.png"), ("serialConsoleLogBlobUri", "serialconsole.log")):
        signature = cloud.pages.signature(f"{name}/{file}", until)
        links[key] = f"{call.base}/bootdiag/{name}/{file}?se={until}&sp=r&sig={signature}"
    return in_json(200, {key: link.replace("+", "%2B") for key, link in links.items()})


def shown(cloud: Cloud, name: str, file: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
    """The serial log or the screen of a machine, by its SAS: a block blob, in whole or in part."""
    until = query.get("se", "0")
    if query.get("sig") != cloud.pages.signature(f"{name}/{file}", until) or time.time() > int(until):
        raise Refusal(403, "AuthenticationFailed", "Server failed to authenticate the request.")
    console = file == "serialconsole.log"
    body = cloud.machines.console(name).encode() if console else cloud.machines.screenshot(name)
    if not body and not console:
        raise Refusal(404, "BlobNotFound", "The specified blob does not exist.")
    kind = "text/plain" if console else "image/png"
    if (asked := pages.asked(headers)) is None:
        return Answer(200, body, {"x-ms-blob-type": "BlockBlob"}, kind)
    start, end = int(asked[1]), min(int(asked[2] or 1 << 62) + 1, len(body))
    if start >= len(body):
        raise Refusal(416, "InvalidRange", "The range specified is invalid for the current size of the resource.")
    more = {"x-ms-blob-type": "BlockBlob", "Content-Range": f"bytes {start}-{end - 1}/{len(body)}"}
    return Answer(206, body[start:end], more, kind)


def _boot(cloud: Cloud, vm: Resource) -> object:
    profile = vm.properties["storageProfile"]
    held = []
    for entry in (profile["osDisk"], *sorted(profile.get("dataDisks", []), key=lambda disk: disk["lun"])):
        disk = existing(cloud, entry["managedDisk"]["id"], disks.KIND)
        held.append((disk.shown["name"], cloud.pages.path(disk.hidden["guid"])))
    size = _size(cloud, vm.properties)
    generation = existing(cloud, profile["osDisk"]["managedDisk"]["id"], disks.KIND).properties.get("hyperVGeneration", "V1")
    uefi = vm.properties.get("securityProfile", {}).get("uefiSettings", {})
    hardware = Hardware(
        "azure",
        Firmware.UEFI if generation == "V2" else Firmware.BIOS,
        memory_mib=int(size["memory_mib"]),
        vcpus=int(size["vcpus"]),
        nics=len(vm.properties["networkProfile"]["networkInterfaces"]),
        secure_boot=bool(uefi.get("secureBootEnabled")),
        tpm=bool(uefi.get("vTpmEnabled")),
    )
    cloud.machines.start(vm.hidden["guid"], held, hardware)
    vm.hidden |= {"power": "running", "generation": generation}
    cloud.store.save(vm)
    return vm.shown


def _halt(cloud: Cloud, vm: Resource) -> None:
    cloud.machines.stop(vm.hidden["guid"])
    vm.hidden["power"] = "deallocated"
    if cloud.store.get(vm.id):
        cloud.store.save(vm)


def _power(cloud: Cloud, vm: Resource) -> str:
    """A guest that went off by itself is stopped, and still paid for."""
    if vm.hidden["power"] == "running" and not cloud.machines.alive(vm.hidden["guid"]):
        return "stopped"
    return str(vm.hidden["power"])


def _size(cloud: Cloud, about: dict[str, Any]) -> dict[str, Any]:
    wanted = about.get("hardwareProfile", {}).get("vmSize", "")
    if (size := cloud.sizes.get(wanted)) is None:
        raise Refusal(400, "InvalidParameter", f"The value {wanted} provided for the VM size is not valid.")
    if size.get("restricted"):
        raise Refusal(
            409, "SkuNotAvailable", f"The requested VM size {wanted} is currently not available in location '{cloud.location}'."
        )
    return size


def _disks(cloud: Cloud, about: dict[str, Any], size: dict[str, Any]) -> list[Resource]:
    """The disks, each free and whole; the first fits the size's generations, and the controller what both can."""
    profile = about.get("storageProfile", {})
    entries = [profile.get("osDisk", {}), *profile.get("dataDisks", [])]
    held = []
    for entry in entries:
        if entry.get("createOption") != "Attach":
            raise Refusal(400, "InvalidParameter", "createOption is not one that this double has: Attach.")
        disk = existing(cloud, entry.get("managedDisk", {}).get("id", ""), disks.KIND)
        disks.sound(disk)
        if (state := disk.properties["diskState"]) != "Unattached" or disk in held:
            text = f"Disk {disk.shown['name']} cannot be attached while it is in the state {state}, or attached already."
            raise Refusal(409, "AttachDiskWhileBeingDetached" if state == "Unattached" else "OperationNotAllowed", text)
        held.append(disk)
    luns = [entry.get("lun") for entry in entries[1:]]
    if len(luns) != len(set(luns)) or len(luns) > size["max_data_disks"]:
        raise Refusal(
            409, "OperationNotAllowed", f"The size takes {size['max_data_disks']} data disks, each on a LUN of its own."
        )
    boot = held[0].properties
    if boot.get("osType", "") != entries[0].get("osType"):
        raise Refusal(400, "InvalidParameter", f"osType is not that of the disk, {boot.get('osType')}.")
    generation = boot.get("hyperVGeneration", "V1")
    if generation not in size["generations"]:
        text = f"The selected VM size cannot boot Hypervisor Generation '{generation[1:]}'."
        raise Refusal(400, "BadRequest", text)
    _security(about, held[0], size)
    able = [word.strip() for word in boot.get("supportedCapabilities", {}).get("diskControllerTypes", "SCSI").split(",")]
    controller = profile.get("diskControllerType", "SCSI" if "SCSI" in size["controllers"] else "NVMe")
    if controller not in size["controllers"] or controller not in able:
        text = (
            f"The VM size cannot boot with DiskControllerType {controller}: the size has {size['controllers']}, the disk {able}."
        )
        raise Refusal(400, "InvalidParameter", text)
    return held


def _security(about: dict[str, Any], boot: Resource, size: dict[str, Any]) -> None:
    """Trusted Launch, as disk, size and generation have it (trusted-launch; the first refusal in Azure's own words)."""
    profile = about.get("securityProfile", {})
    kind = profile.get("securityType", "Standard")
    if kind != disks.security(boot):
        raise Refusal(400, "BadRequest", "Security type of VM is not compatible with the security type of attached OS Disk.")
    if kind == "Standard" and profile.get("uefiSettings"):
        raise Refusal(400, "InvalidParameter", "uefiSettings needs a securityType that is not Standard.")
    if kind != "Standard" and boot.properties.get("hyperVGeneration", "V1") != "V2":
        raise Refusal(400, "BadRequest", f"Use of {kind} requires Generation 2.")
    if kind == "TrustedLaunch" and not size.get("trusted_launch", True):
        name = about["hardwareProfile"]["vmSize"]
        what = f"creation of VMs and Virtual Machine Scale Set with '{kind}' security type"
        text = f"The VM size '{name}' is not supported for {what}."
        raise Refusal(400, "BadRequest", text)


def _cards(cloud: Cloud, about: dict[str, Any], size: dict[str, Any]) -> list[Resource]:
    entries = about.get("networkProfile", {}).get("networkInterfaces", [])
    if not 0 < len(entries) <= size["max_nics"]:
        raise Refusal(400, "NetworkInterfaceCountExceeded", f"The size takes 1 to {size['max_nics']} network interfaces.")
    if len(entries) > 1 and [entry.get("properties", {}).get("primary") for entry in entries].count(True) != 1:
        raise Refusal(400, "VirtualMachineMustHaveOneNetworkInterfaceAsPrimary", "Exactly one network interface is primary.")
    cards = []
    for entry in entries:
        nic = existing(cloud, entry.get("id", ""), network.NIC)
        if "virtualMachine" in nic.properties:
            raise Refusal(400, "NicInUse", f"Network Interface {nic.shown['name']} is used by another machine.")
        if nic.properties.get("enableAcceleratedNetworking") and not size["accelerated"]:
            raise Refusal(400, "VMSizeIsNotPermittedToEnableAcceleratedNetworking", "The size has no accelerated networking.")
        cards.append(nic)
    networks = {network.virtual_network(nic) for nic in cards}
    if len(networks) > 1:  # virtual-network-network-interface-vm, "Constraints"
        text = f"Subnets of the network interfaces are not in the same virtual network: {', '.join(sorted(networks))}."
        raise Refusal(400, "SubnetsNotInSameVnet", text)
    return cards


def used(cloud: Cloud) -> dict[str, int]:
    """What counts against the quotas: processors, by family too, and machines. What is reserved counts whether a machine runs on
    it or not; a machine on it does not count again."""
    found = {"cores": 0, "virtualMachines": 0}

    def add(size: dict[str, Any], count: int = 1) -> None:
        for name in ("cores", size["family"]):
            found[name] = found.get(name, 0) + size["vcpus"] * count

    for sku in [r.shown["sku"] for r in cloud.store.all() if r.shown["type"] == RESERVATION]:
        add(cloud.sizes[sku["name"]], sku.get("capacity", 0))
    for vm in (r for r in cloud.store.all() if r.shown["type"] == KIND):
        found["virtualMachines"] += 1
        if vm.hidden["power"] != "deallocated" and not _reserved(cloud, vm):
            add(cloud.sizes[vm.properties["hardwareProfile"]["vmSize"]])
    return found


def _reserved(cloud: Cloud, vm: Resource) -> bool:
    """Whether there is a reservation that it runs on."""
    return any(r.shown["sku"].get("capacity", 0) for r in cloud.store.below(f"{bound(vm)}/capacityReservations"))


def _quota(cloud: Cloud, vm: Resource, size: dict[str, Any]) -> None:
    now = used(cloud)
    known = cloud.store.get(vm.id) is not None
    vcpus = 0 if _reserved(cloud, vm) else size["vcpus"]
    for name, more in (("cores", vcpus), (size["family"], vcpus), ("virtualMachines", int(not known))):
        limit = cloud.quotas.get(name, 100)
        if now.get(name, 0) + more > limit:
            text = f"Operation could not be completed as it results in exceeding approved {name} quota. Limit: {limit}."
            raise Refusal(409, "OperationNotAllowed", text)
