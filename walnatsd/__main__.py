"""`python -m walnatsd` is `walnatsd`."""

from walnatsd.cli import main

main()
