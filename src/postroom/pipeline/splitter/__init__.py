"""Import: an uploaded file becomes messages in the ledger, and every row is accounted for.

plan         find out how the file is laid out, count its rows, freeze the plan
store        one chunk of rows into the ledger; the report of rejected rows; the end of an import
splitter     an import in one process
parallel     an import in steps that many functions take at once; exchange: what they hand each other
checkpoint   how far an import is
"""

from postroom.pipeline.splitter.checkpoint import Checkpoint, Checkpoints
from postroom.pipeline.splitter.parallel import ParallelImport
from postroom.pipeline.splitter.splitter import Splitter

__all__ = ["Checkpoint", "Checkpoints", "ParallelImport", "Splitter"]
