"""Network cards of instances, each in a network of its own; and internal addresses, which are given once and can be reserved."""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import replace

from v2c.emulators.gcp.calls import Call
from v2c.emulators.gcp.compute import Compute
from v2c.emulators.gcp.operations import Failed
from v2c.emulators.gcp.store import Refusal, Thing

LEAST, MOST = 2, 8  # cards of any type, and of the largest: one for each processor between them
AUTOMATIC = "10.132.0.0/20"  # what an automatic network has in europe-west1


class Cards:
    """What instances.insert says of its networkInterfaces, judged and completed."""

    def __init__(self, compute: Compute) -> None:
        self.compute, self.store = compute, compute.store

    def asked(self, nics: Sequence[Thing], vcpus: int) -> list[Thing]:
        """The cards of a new instance, still without the addresses that nobody named. Refusal for what cannot be."""
        if not nics:
            raise Refusal(400, "required", "Required field 'resource.networkInterfaces' not specified.")
        most = min(MOST, max(LEAST, vcpus))
        if len(nics) > most:
            message = "Too many network interfaces. The maximum number of network interfaces allowed for this machine type is"
            raise Refusal(400, "invalid", f"{message} {most}.")
        found = [self._card(number, nic) for number, nic in enumerate(nics)]
        if len({nic["network"] for nic in found}) < len(found):
            raise Refusal(400, "invalid", "Networks must be distinct for NICs attached to a VM.")
        ranges = [self.whole(nic) for nic in found]
        if any(mine.overlaps(theirs) for number, mine in enumerate(ranges) for theirs in ranges[:number]):
            raise Refusal(400, "invalid", "Subnetwork ranges of NICs attached to a VM must not overlap.")
        return found

    def _card(self, number: int, nic: Thing) -> Thing:
        if not nic.get("network") and not nic.get("subnetwork"):
            raise Refusal(400, "invalid", "One of network and subnetwork must be given.")
        found = {**nic, "name": f"nic{number}", "kind": "compute#networkInterface"}
        if nic.get("subnetwork"):
            subnetwork = self.store.get(self.compute.key(nic["subnetwork"]))
            found |= {"subnetwork": subnetwork["selfLink"], "network": subnetwork["network"]}
            if nic.get("network") and self.compute.key(nic["network"]) != self.compute.key(subnetwork["network"]):
                raise Refusal(400, "invalid", "The subnetwork does not belong to the network.")
        else:
            network = self.store.get(self.compute.key(nic["network"]))
            if not network.get("autoCreateSubnetworks"):
                raise Refusal(400, "invalid", "Network must have auto-created subnetworks, or a subnetwork must be given.")
            found["network"] = network["selfLink"]
            for _, subnet in self.store.under(f"regions/{self.compute.region}/subnetworks/"):
                if subnet["network"] == network["selfLink"]:
                    found["subnetwork"] = subnet["selfLink"]
        if address := nic.get("networkIP"):
            self.fits(address, self.whole(found), f"resource.networkInterfaces[{number}].networkIP")
        return found

    def whole(self, nic: Thing) -> ipaddress.IPv4Network:
        """The addresses of a card's subnet."""
        subnet = self.store.get(self.compute.key(nic["subnetwork"])) if nic.get("subnetwork") else {"ipCidrRange": AUTOMATIC}
        return ipaddress.IPv4Network(subnet["ipCidrRange"])

    @staticmethod
    def fits(address: str, whole: ipaddress.IPv4Network, field: str) -> None:
        """Refusal for an address that the range does not have, or that Google keeps: the first two, and the last two."""
        try:
            wanted = ipaddress.IPv4Address(address)
        except ValueError:
            raise Refusal(400, "invalid", f"Invalid value for field '{field}': '{address}'. Must be an IP address.") from None
        if wanted not in whole or wanted in (whole[0], whole[1], whole[-2], whole[-1]):
            message = "Requested internal IP address is outside the subnetwork range."
            raise Refusal(400, "invalid", f"Invalid value for field '{field}': '{address}'. {message}")

    def settle(self, instance: Thing) -> None:
        """Gives the cards their addresses; Failed for one that another instance has."""
        with self.store.changing():
            for nic in instance["networkInterfaces"]:
                taken = set(self._taken(nic, instance))
                if nic.get("networkIP") in taken:
                    message = f"IP '{nic['networkIP']}' is already being used by another resource."
                    raise Failed("IP_IN_USE_BY_ANOTHER_RESOURCE", message)
                nic["networkIP"] = nic.get("networkIP") or self._any(nic, taken)
                for address in self._reserved(nic, nic["networkIP"]):
                    address |= {"status": "IN_USE", "users": [instance["selfLink"]]}

    def freed(self, instance: Thing) -> None:
        """The instance is over: what was reserved of its addresses stays so."""
        with self.store.changing() as things:
            for key, address in things.items():
                if "/addresses/" in key and instance["selfLink"] in address.get("users", ()):
                    address["status"] = "RESERVED"
                    del address["users"]

    def _taken(self, nic: Thing, instance: Thing | None) -> Iterator[str]:
        """The addresses that other instances have in a card's network."""
        for card, _ in self._others(instance):
            if card.get("networkIP") and card.get("network") == nic["network"]:
                yield card["networkIP"]

    def _others(self, instance: Thing | None) -> Iterator[tuple[Thing, str]]:
        """(card, its instance) of all but one instance."""
        for key, other in self.store.under("zones/"):
            if "/instances/" in key and other is not instance:
                yield from ((card, other["selfLink"]) for card in other.get("networkInterfaces", ()))

    def _reserved(self, nic: Thing, address: str = "") -> Iterator[Thing]:
        """What is reserved in a card's subnet: all, or one address."""
        for _, thing in self.store.under(f"regions/{self.compute.region}/addresses/"):
            if thing["subnetwork"] == nic.get("subnetwork") and address in ("", thing["address"]):
                yield thing

    def _any(self, nic: Thing, taken: set[str]) -> str:
        """The first address that nothing has, and nobody reserved."""
        whole, reserved = self.whole(nic), {thing["address"] for thing in self._reserved(nic)}
        found = (str(whole[number]) for number in range(2, whole.num_addresses - 2))
        for address in found:
            if address not in taken | reserved:
                return address
        raise Failed("IP_SPACE_EXHAUSTED", f"IP space of '{nic.get('subnetwork', nic['network'])}' is exhausted.")

    # ---- reserved addresses ------------------------------------------------------------------------------------------------

    def address_insert(self, call: Call) -> Thing:
        """An internal address of a subnet. One that an instance has already is reserved for that instance."""
        if earlier := self.compute.operations.repeated(call):
            return earlier
        body, key = call.body, f"{self.compute.scope(call)}/addresses/{call.body['name']}"
        if body.get("addressType", "EXTERNAL") != "INTERNAL" or body.get("purpose", "GCE_ENDPOINT") != "GCE_ENDPOINT":
            raise Refusal(400, "invalid", "This double reserves internal addresses for endpoints only.")
        if not body.get("subnetwork"):
            raise Refusal(400, "required", "Required field 'resource.subnetwork' not specified.")
        subnet = self.store.get(self.compute.key(body["subnetwork"], self.compute.scope(call)))
        nic = {"subnetwork": subnet["selfLink"], "network": subnet["network"]}
        with self.store.lock:
            if address := body.get("address", ""):
                self.fits(address, self.whole(nic), "resource.address")
                if key not in self.store.things and any(self._reserved(nic, address)):
                    message = "Specified IP address is already reserved."
                    raise Refusal(400, "invalid", f"Invalid value for field 'resource.address': '{address}'. {message}")
            address = address or self._any(nic, set(self._taken(nic, None)))
            more = {"address": address, "subnetwork": subnet["selfLink"], "status": "RESERVING", "networkTier": "PREMIUM"}
            more |= {"purpose": "GCE_ENDPOINT", "region": self.compute.link(self.compute.scope(call))}

            def work(made: Thing) -> None:
                with self.store.changing():
                    users = [link for card, link in self._others(None) if _is(card, nic, address)]
                    made |= {"status": "IN_USE", "users": users} if users else {"status": "RESERVED"}

            known = {key: value for key, value in body.items() if key not in more}
            return self.compute.insert(replace(call, body=known), "addresses", more, work)


def _is(card: Thing, nic: Thing, address: str) -> bool:
    return bool(card.get("networkIP") == address and card.get("network") == nic["network"])
