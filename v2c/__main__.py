"""`python -m v2c`: the command line."""

from v2c.cli import main

main()
