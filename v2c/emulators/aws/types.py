"""Instance types, from moto's copy of AWS's own catalogue, and which images they boot."""

from moto.ec2.models.instance_types import INSTANCE_TYPES

from v2c.emulators.aws.store import Record
from v2c.emulators.aws.wire import Refusal

STANDARD = "ACDHIMRTZ"  # the families of quota L-1216C47A


def standard(name: str) -> bool:
    """Whether the standard quota counts it."""
    return name[0].upper() in STANDARD


def named(name: str) -> Record:
    """A type of the catalogue."""
    found: Record | None = INSTANCE_TYPES.get(name)
    if found is None:
        raise Refusal("InvalidParameterValue", f"Invalid value '{name}' for InstanceType.")
    return found


def fits(image: Record, kind: Record, name: str) -> str:
    """The boot mode of the image on the type; Refusal where EC2 does not launch one on the other."""
    if image["Architecture"] not in kind["ProcessorInfo"]["SupportedArchitectures"]:
        message = (
            f"The architecture '{','.join(kind['ProcessorInfo']['SupportedArchitectures'])}' of the specified instance type "
        )
        raise Refusal("InvalidParameterValue", message + f"does not match the architecture '{image['Architecture']}' of the AMI.")
    if image["VirtualizationType"] not in kind["SupportedVirtualizationTypes"]:
        raise Refusal("InvalidParameterCombination", f"{name} does not support {image['VirtualizationType']} images")
    if kind.get("NetworkInfo", {}).get("EnaSupport") == "required" and not image["EnaSupport"]:
        message = f"Enhanced networking with the Elastic Network Adapter (ENA) is required for the '{name}' instance type."
        raise Refusal("InvalidParameterCombination", message)
    offered = kind.get("SupportedBootModes", ["legacy-bios"])
    wanted = image.get("BootMode") or ("uefi" if image["Architecture"] == "arm64" else "legacy-bios")
    if wanted == "uefi-preferred":
        wanted = "uefi" if "uefi" in offered else "legacy-bios"
    if wanted not in offered:
        message = f"The instance type '{name}' does not support an AMI with the boot mode '{wanted}'."
        raise Refusal("InvalidParameterValue", message)
    if image.get("TpmSupport") and kind.get("NitroTpmSupport", "unsupported") != "supported":
        raise Refusal("InvalidParameterCombination", f"The instance type '{name}' does not support NitroTPM")
    return str(wanted)
