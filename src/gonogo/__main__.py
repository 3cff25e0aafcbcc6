"""``python -m gonogo`` is the command line."""

import sys

from gonogo.cli import main

if __name__ == "__main__":
    sys.exit(main())
