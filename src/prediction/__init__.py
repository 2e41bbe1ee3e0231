from src.prediction.areas import AREAS, Areas
from src.prediction.folder import OutputFolder, without_earlier_pictures
from src.prediction.huge import Blocks
from src.prediction.pictures import IMAGE_KINDS, VIDEO_KINDS, Label, Pictures
from src.prediction.run import Run
from src.prediction.video_files import Capture, video_source

__all__ = [
    "AREAS",
    "IMAGE_KINDS",
    "VIDEO_KINDS",
    "Areas",
    "Blocks",
    "Capture",
    "Label",
    "OutputFolder",
    "Pictures",
    "Run",
    "video_source",
    "without_earlier_pictures",
]
