"""`python -m postroom.settings`: the page of the reference, for `make docs`."""

import sys

from postroom.settings.reference import reference

sys.stdout.write(reference())
