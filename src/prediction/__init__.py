from src.prediction.areas import Areas
from src.prediction.folder import OutputFolder
from src.prediction.huge import Blocks
from src.prediction.pictures import IMAGE_KINDS, VIDEO_KINDS, Label, Pictures
from src.prediction.run import Run
from src.prediction.video_files import video_source

__all__ = [
    "IMAGE_KINDS",
    "VIDEO_KINDS",
    "Areas",
    "Blocks",
    "Label",
    "OutputFolder",
    "Pictures",
    "Run",
    "video_source",
]
