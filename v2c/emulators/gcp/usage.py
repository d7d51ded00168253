"""What there is of each type, and what of it counts against a quota of the region."""

from v2c.emulators.gcp.store import Store, Thing

TYPES = (  # name, processors, MiB, shared: some that are there in every region (machineTypes.list)
    ("e2-medium", 2, 4096, True),
    ("e2-standard-2", 2, 8192, False),
    ("e2-highcpu-2", 2, 2048, False),
    ("n1-standard-1", 1, 3840, False),
    ("n2-standard-2", 2, 8192, False),
    ("n2-highcpu-2", 2, 2048, False),
    ("n2-standard-4", 4, 16384, False),
    ("n2-standard-8", 8, 32768, False),
    ("n2-highmem-8", 8, 65536, False),
    ("c3-standard-4", 4, 16384, False),
    ("n4-standard-2", 2, 8192, False),
)
TAKES = {"c3": ("pd-balanced", "pd-ssd", "hyperdisk-"), "n4": ("hyperdisk-",)}  # which disks a series runs on; others on all
LIMITS = {"CPUS": 24.0, "N2_CPUS": 24.0, "C3_CPUS": 24.0, "INSTANCES": 24.0, "DISKS_TOTAL_GB": 4096.0, "SSD_TOTAL_GB": 500.0}
LIMITS |= {"HDB_TOTAL_GB": 500.0, "HDT_TOTAL_GB": 4096.0}
LIMITS_PROJECT = {"IMAGES": 100.0, "NETWORKS": 5.0, "FIREWALLS": 100.0, "CPUS_ALL_REGIONS": 32.0}
DISK_TYPES = {
    **{"pd-standard": "DISKS_TOTAL_GB", "pd-balanced": "SSD_TOTAL_GB", "pd-ssd": "SSD_TOTAL_GB"},
    **{"hyperdisk-balanced": "HDB_TOTAL_GB", "hyperdisk-throughput": "HDT_TOTAL_GB"},
}
DISK_SIZES = {"hyperdisk-balanced": (4, 65536), "hyperdisk-throughput": (2048, 32768)}  # in GB, of others 10 to 65536
PROVISIONED = {
    "provisionedIops": ("hyperdisk-balanced",),
    "provisionedThroughput": ("hyperdisk-balanced", "hyperdisk-throughput"),
}


def used(store: Store, metric: str) -> float:
    """What counts. Of an instance that is stopped its processors do not; of one on a reservation the reservation's do."""
    things = [thing for _, thing in store.under("zones/")]
    if metric.endswith("TOTAL_GB"):
        kinds = [kind for kind, counted in DISK_TYPES.items() if counted == metric]
        disks = [t for t in things if t.get("kind") == "compute#disk" and t["type"].rsplit("/", 1)[1] in kinds]
        return float(sum(int(disk.get("sizeGb", 0)) for disk in disks))
    instances = [t for t in things if t.get("kind") == "compute#instance"]
    if metric == "INSTANCES":
        return float(len(instances))
    free = [i for i in instances if i["status"] != "TERMINATED" and not _reserved(store, i)]
    held = sum(i["_vcpus"] for i in free if counts(i["machineType"].rsplit("/", 1)[1], metric))
    for about in (t["specificReservation"] for t in things if t.get("kind") == "compute#reservation"):
        kind = about["instanceProperties"]["machineType"]
        processors = next(vcpus for name, vcpus, *_ in TYPES if name == kind)
        held += int(about["count"]) * processors if counts(kind, metric) else 0
    return float(held)


def counts(type: str, metric: str) -> bool:
    """Whether a machine type's processors count against a quota: newer series have one of their own."""
    series = type.partition("-")[0].upper()
    return metric == f"{series}_CPUS" if f"{series}_CPUS" in LIMITS else metric == "CPUS"


def _reserved(store: Store, instance: Thing) -> bool:
    """Whether it runs on a reservation that is there."""
    zone = instance["selfLink"].rsplit("/instances/", 1)[0].rpartition("zones/")[2]
    names = instance.get("reservationAffinity", {}).get("values", ())
    return any(f"zones/{zone}/reservations/{name}" in store.things for name in names)
