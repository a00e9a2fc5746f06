"""`python -m mrcnn` is the command `mrcnn`."""

import sys

from mrcnn.cli.main import main

sys.exit(main())
