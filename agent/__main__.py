"""`python -m agent` is the command `yukimi`."""

import sys

from .cli import main

sys.exit(main())
