"""Pictures and meshes rendered with numpy, in place of the output of real models."""
