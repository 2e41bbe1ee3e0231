"""What renders ``src.data.sets.toy_streets``: street and scene lay it out, painter draws it from meshes."""
