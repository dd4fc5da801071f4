"""An upload becomes messages: recognised, read, checked, stored; every row accounted for."""

from postroom.pipeline.splitter.checkpoint import Checkpoint, Checkpoints
from postroom.pipeline.splitter.parallel import ParallelImport
from postroom.pipeline.splitter.ranges import Range
from postroom.pipeline.splitter.splitter import Splitter

__all__ = ["Checkpoint", "Checkpoints", "ParallelImport", "Range", "Splitter"]
