from src.runtime import torchvision_guard

torchvision_guard.install()
