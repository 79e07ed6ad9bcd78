"""Pictures in and out: `read_image`, `write_image`, and what goes with them, under one name."""

from .picture import Metadata, Picture
from .place import check_target
from .read import read_image
from .record import read_record
from .write import write_image

__all__ = ["Metadata", "Picture", "check_target", "read_image", "read_record", "write_image"]
