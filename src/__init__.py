from src import torchvision_guard

torchvision_guard.install()
