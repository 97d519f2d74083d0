"""`python -m refinery.cli`: the same as `refinery`."""

from refinery.cli import main

main()
