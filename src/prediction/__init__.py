from src.prediction.areas import AREAS, Areas
from src.prediction.large_images import Blocks
from src.prediction.output_folder import OutputFolder, without_earlier_pictures
from src.prediction.rendered import IMAGE_KINDS, VIDEO_KINDS, Label, Pictures
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
