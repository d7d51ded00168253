"""GRUB's device.map: "(hd0) /dev/sda" per line. GRUB 2 does without; a stale one makes grub-install look at a wrong disk."""

from v2c.guest.formats.lines import Table


class DeviceMap(Table):
    """The whole file."""

    @property
    def devices(self) -> dict[str, str]:
        """grub's name -> the system's."""
        return {row.words[0]: row.words[1] for row in self.lines if len(row.words) >= 2 and row.words[0].startswith("(")}
