"""The renderer and the layout behind ``src.data.sets.toy_streets``.

``street`` plans a scene from random draws, ``scene`` describes it in metres, ``painter`` turns it into image and label.
"""
