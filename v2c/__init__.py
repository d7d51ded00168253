"""v2c moves virtual and physical machines into a cloud and proves that they came up as the same machines."""

__version__ = "0.1.0"
