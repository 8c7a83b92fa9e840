"""Training of networks on labelled pairs; needs the extra `dupq[train]`."""

from dupq.errors import require_extra

require_extra("train", "training")
